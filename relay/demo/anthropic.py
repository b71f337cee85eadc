from relay.demo.chat import Chat


class Anthropic(Chat):
    pass
