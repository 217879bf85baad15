"""The epoch: a name, kept outside etcd, for the stretch of time in which one history of the cluster counts.

etcd restored from a snapshot brings back what had ended since: grants that were revoked are Active again, and nothing in
etcd can tell. So each grant is stamped with the epoch in which it was judged, and the services are told the epoch that
counts by a flag. Whoever restores etcd gives them another name; any that was not used before will do.
"""

import re
from typing import Final

MAX_EPOCH: Final = 63
_EPOCH: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def check_epoch(epoch: str) -> None:
    """Raises ValueError for what cannot name an epoch. Empty is the first one's name."""
    if epoch and not _EPOCH.fullmatch(epoch):
        raise ValueError(
            f"epoch {epoch!r}: use up to {MAX_EPOCH} letters, digits, '.', '_' and '-', such as 2026-11-25-restore"
        )
