"""Awkward keys, questions about them, and a plain model of S3's lists to answer them."""

from __future__ import annotations

HIGHEST = "\U0010ffff"

KEYS = sorted(
    {
        # a tree, with a key that is a prefix, and neighbours of the delimiter in the order of bytes
        *("a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/d.txt", "a/c", "a.", "a-", "a0", "a/.", "a/..", "a/../b", "./a", "../a"),
        *("/", "//", "///", "/a", "//a", "a//", "a//b", "a///b", "a//b//c", "b//", "dir/", "dir/x", "dir/y/z", "dir0"),
        *(f"deep/{'x/' * depth}file" for depth in range(12)),
        *(f"run-{number:02}/part-{part}" for number in range(8) for part in range(3)),
        *(f"flat{number}" for number in range(25)),
        # what other encodings mean something by
        *("%", "%%", "%2F", "%2f", "%25", "a%2Fb", "a%2F", "a+b", "a b", " a", "a ", "a&b=c", "a?b#c", "a;b", "_", "a_b"),
        *("\\", "a\\b", "'", '"', "`", "*", "?", "[a]", "(a)", "{a}", "$a", "^a", "|", "~", "<a>", "&amp;", "]]>"),
        # controls; NUL alone cannot be
        *("\x01", "\x01\x01", "a\x01", "a/\x01", "a/b\x01", "a\tb", "a\nb", "a\rb", "\x7f", "a\x7f", "a\x1f", "\x0b", "a\x85b"),
        # one to four bytes a character, both spellings of é, both sides of the surrogates, the last ones there are
        *("é", "e\u0301", "ü/ä", "ü/ö/ß", "日本語/キー", "日本語/キー/値", "emoji/\U0001f600/x", "emoji/\U0001f601"),
        *("\u07ff", "\u0800", "\ud7ff", "\ud7ff/a", "\ue000", "\ue000/a", "\ufeff", "\uffff", "\uffff/a", "\U00010000"),
        *("İ", "ı", "ſ", "ß", HIGHEST, HIGHEST * 2, f"{HIGHEST}/", f"{HIGHEST}/a"),
        *(f"a{HIGHEST}", f"a/{HIGHEST}", f"a/{HIGHEST}/b", f"a/{HIGHEST * 2}"),
        *(HIGHEST * 256, "x" * 1024, f"long/{'é' * 500}"),
        *("a/b\ud7ffc", "a/b\ue000c", "a/b\U0010fffec"),
    }
)  # fmt: skip

DELIMITERS = [
    "",
    "",
    "/",
    "/",
    "/",
    "//",
    "a",
    "b",
    "-",
    ".",
    "%",
    "%2F",
    "\x01",
    "é",
    "\ud7ff",
    HIGHEST,
    HIGHEST * 2,
    "part-",
]


def question(random):
    """prefix, delimiter, page size and start_after; no more than a few pages."""
    prefix = _prefix(random) if random.random() < 0.7 else ""
    delimiter, start_after = random.choice(DELIMITERS), None
    if random.random() < 0.4:
        start_after = random.choice([random.choice(KEYS), _prefix(random), random.choice(KEYS) + "\x01"])
    pages = random.choice([1, 1, 2, 3, 5])
    return prefix, delimiter, -(-len(entries(KEYS, prefix, delimiter, start_after)) // pages) or 1, start_after


def _prefix(random):
    key = random.choice(KEYS)
    return key[: random.randint(0, min(len(key), 12))] + random.choice(["", "", "", "", "/", "a", HIGHEST, "\x01"])


def entries(keys, prefix, delimiter, start_after=None):
    """All that a list shows, in order: keys, and groups as one-element tuples."""
    found = []
    for key in sorted(keys):
        if not key.startswith(prefix) or (start_after is not None and key <= start_after):
            continue
        behind = key[len(prefix) :]
        if delimiter and delimiter in behind:
            key = (prefix + behind[: behind.index(delimiter)] + delimiter,)
        if not found or found[-1] != key:
            found.append(key)
    return found


def moto_takes(prefix, delimiter, start_after):
    """Not where moto is wrong: start_after lies in a group, which it then leaves out whole; XML cannot hold what it repeats."""
    if delimiter and start_after and start_after.startswith(prefix) and delimiter in start_after[len(prefix) :]:
        return False
    return not any(char < " " or char == "\uffff" for char in delimiter + (start_after or ""))


def pages(handle, prefix, delimiter, max_keys, start_after=None):
    """Our pages, walked by tokens: of each its keys, its common prefixes, and whether there are more."""
    token, walked = None, []
    while True:
        page = handle.list_objects_v2(prefix, delimiter, max_keys, start_after, token)
        walked.append(([head.object_key for head in page.contents], page.common_prefixes, page.is_truncated))
        token = page.next_continuation_token
        if not page.is_truncated:
            assert token is None
            return walked
