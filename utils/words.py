"""Words of users' files as they can stand in a terminal and in a picture."""

LONGEST = 60  # characters
LAST_LATIN = "\u024f"  # of the signs that every font of matplotlib has


def printable(text):
    """`text` in Latin letters, anything else as Python writes it in ASCII, and not too long.

    Fonts of pictures lack many signs, and control characters do what they like to a terminal.
    """
    shown = "".join(
        sign if sign.isprintable() and sign <= LAST_LATIN else ascii(sign)[1:-1] for sign in text
    )
    if len(shown) <= LONGEST:
        return shown
    kept = (LONGEST - 3) // 2
    return f"{shown[:kept]}...{shown[-kept:]}"


def encodable(text):
    """`text` with escapes for what is in no encoding: bytes of a file's name, in most cases."""
    return text.encode(errors="backslashreplace").decode()
