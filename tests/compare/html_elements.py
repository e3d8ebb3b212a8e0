"""What stands in a page."""

from html.parser import HTMLParser


class Elements(HTMLParser):
    """Elements of a page: (tag, attributes) in their order, and the text of the headings."""

    def __init__(self, text):
        super().__init__()
        self.all, self.headings, self._open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        if self._open == "h2":
            self.headings.append(data)
            self._open = None

    def values(self, name):
        return [attributes[name] for _, attributes in self.all if name in attributes]
