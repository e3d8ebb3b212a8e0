"""What Lightning and torch say in a run that nobody needs to read."""

import logging
import warnings

LOGGERS = ("lightning.pytorch", "lightning.fabric")


def quieten() -> None:
    """Silence what tells a user of the command line nothing: the devices and tips of Lightning, its worker advice."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*is deprecated.*",
        ".*callbacks used to create the checkpoint.*",
        ".*dirpath has changed from.*",  # a run that resumes another has its own directory
        ".*exists and is not empty.*",  # or it continues that one's
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # the order of the samples is known
        ".*the WeightAveraging callback.*",
        ".*Encountered `nan` values.*",  # the run says where they began
        ".*is smaller than the logging interval.*",  # the last step of an epoch is logged in any case
        ".*in eval mode at the start of training.*",  # what is frozen, and nothing else
        ".*returned a view tensor.*",  # of a block that fsdp2 gathers; no network here writes into one
        ".*was called before the ``update`` method.*",  # a process whose batches another counts
    ):
        warnings.filterwarnings("ignore", message)
