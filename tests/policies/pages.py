"""Pages with forms, read and sent back as a browser would without script."""

from __future__ import annotations

from html.parser import HTMLParser


class Form(HTMLParser):
    """What the form of an id holds: `sent` is what a browser would send of it, untouched, without its buttons."""

    def __init__(self, response, id="policy_form"):
        super().__init__()
        self.id, self.inside, self.sent, self.ids = id, False, {}, []
        self.select = self.text = None
        self.action = ""
        self.feed(response.content.decode() if hasattr(response, "content") else response)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        if tag == "form" and given.get("id") == self.id:
            self.inside, self.action = True, given.get("action", "")
        name, kind = given.get("name"), given.get("type", "text")
        if not (self.inside and name) and tag != "option":
            return
        if tag == "input" and kind not in ("submit", "button"):
            if kind not in ("checkbox", "radio") or "checked" in given:
                ticked = "on" if kind in ("checkbox", "radio") else ""
                self.sent.setdefault(name, []).append(given.get("value", ticked))
        elif tag == "select":
            self.select = name
            self.sent[name] = []
        elif tag == "option" and self.select and ("selected" in given or not self.sent[self.select]):
            self.sent[self.select] = [given.get("value", "")]
        elif tag == "textarea":
            self.text = name
            self.sent[name] = [""]

    def handle_endtag(self, tag):
        if tag == "form":
            self.inside = False
        if tag == "select":
            self.select = None
        if tag == "textarea" and self.text:
            # A browser drops the first line break, and sends the others as two characters.
            whole = self.sent[self.text][0].removeprefix("\n")
            self.sent[self.text] = [whole.replace("\r\n", "\n").replace("\n", "\r\n")]
            self.text = None

    def handle_data(self, data):
        if self.text:
            self.sent[self.text][0] += data


def press(client, response, button, value="1", form="policy_form", **changed):
    """Send the form of a page with some inputs filled in anew (None: unticked) by one of its buttons."""
    read = Form(response, form)
    sent = {name: values for name, values in (read.sent | changed).items() if values is not None}
    return client.post(read.action, sent | {button: value})
