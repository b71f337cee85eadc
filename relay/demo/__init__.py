"""demo"""

from relay.demo.application import DemoApp, create_app

__all__ = ["DemoApp", "app", "create_app"]
app = create_app()
