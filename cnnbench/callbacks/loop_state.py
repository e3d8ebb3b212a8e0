"""How far a run has come, as its checkpoints say it: brought to the forms that Lightning goes on from exactly.

Lightning saves the counters of its loops as they stand in the hook that saves, and guesses from them where to go on.
It is right within and after a validation, and wrong elsewhere: it repeats or leaves out a validation, or counts an
epoch twice. Here each place where a run is saved becomes one of four forms:

| saved | form | a resumed run |
| --- | --- | --- |
| before a batch | as many batches ready as completed | trains on this batch |
| within a validation | one batch of the validation begun, none done | validates from the first batch |
| after a validation | as Lightning has it | goes on behind it; at an epoch's end with the end |
| between epochs | no batch of the epoch ready | begins the next epoch |
"""

from typing import Any

Counters = dict[str, Any]  # of a `_Progress`: current and total, each with ready, started, processed, completed


def settle(loop: dict[str, Any], validating: bool) -> None:
    """Bring the saved state of the fit loop to its form, in place.

    Args:
        loop: `loops` of a checkpoint, its `fit_loop`.
        validating: Whether it was saved within or right after a validation.
    """
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    validation = loop["epoch_loop.val_loop.batch_progress"]
    if validating and not _is_done(validation):
        former = validation["total"]["completed"] - validation["current"]["completed"]
        _begin_anew(validation)
        validation["total"] = {"ready": former + 1, "started": former + 1, "processed": former, "completed": former}
        return
    validation["total"] = _all(validation["total"], validation["total"]["completed"])  # as if it had not begun twice
    if epochs["current"]["started"] == epochs["current"]["completed"]:
        _take_back(epochs)
        _begin_anew(batches)
        _begin_anew(validation)
        validation["total"] = _all(validation["total"], 0)
    elif batches["current"]["started"] == batches["current"]["completed"] < batches["current"]["ready"]:
        _take_back(batches)
        batches["is_last_batch"] = False


def _all(counter: dict[str, int], value: int) -> dict[str, int]:
    return dict.fromkeys(counter, value)


def _take_back(counters: Counters) -> None:
    """Forget what has begun and is not complete."""
    for place in ("current", "total"):
        counters[place] = _all(counters[place], counters[place]["completed"])


def _begin_anew(counters: Counters) -> None:
    counters["current"] = _all(counters["current"], 0)
    counters["is_last_batch"] = False


def _is_done(validation: Counters) -> bool:
    current = validation["current"]
    return current["completed"] == current["ready"] > 0
