"""The setting that a user meant who typed `--lr`, `--epochs` or `trainer.max_epoch`."""

from collections.abc import Iterable
from difflib import get_close_matches

from cnnbench.errors import either


def did_you_mean_key(key: str, known: Iterable[str]) -> str:
    """Return the nearest dotted keys as a clause to append to a message.

    These are, in this order: keys that end with all of `key`; keys of the same section whose last part has the words
    of `key`'s and fewest others, as `trainer.max_epochs` has that of `epochs`; the nearest spelling; keys whose last
    part is spelt nearly alike.
    """
    known = sorted(known)
    siblings = get_close_matches(_last(key), {_last(other) for other in known if _section(other) == _section(key)}, n=1)
    near = (
        [other for other in known if other.endswith(f".{key}")]
        or _with_words(key, known)
        or [other for other in known if _section(key) == _section(other) and _last(other) in siblings]
        or get_close_matches(key, known, n=1, cutoff=0.8)
        or [other for other in known if get_close_matches(_last(key), [_last(other)], cutoff=0.75)]
    )
    if near:
        return f"; did you mean {either([repr(name) for name in near[:3]])}?"
    return "; --help, --model.help CLASS and --data.help CLASS name them"


def _with_words(key: str, known: Iterable[str]) -> list[str]:
    having = [other for other in known if _section(key) in ("", _section(other)) and _words(key) <= _words(other)]
    fewest = min((len(_words(other)) for other in having), default=0)
    return [other for other in having if len(_words(other)) == fewest]


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _last(key: str) -> str:
    return key.rpartition(".")[2].lower().replace("-", "_")


def _words(key: str) -> set[str]:
    return set(_last(key).split("_"))
