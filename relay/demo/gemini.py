from relay.demo.chat import Chat


class Gemini(Chat):
    pass
