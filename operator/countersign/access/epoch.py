"""What use and minting say alike about a grant of another epoch."""

from countersign.api.grant import WorkloadGrant


def epoch_changed(grant: WorkloadGrant, epoch: str) -> str:
    """For people: what was found, and the way out."""
    return (
        f"grant {grant.metadata.namespace}/{grant.metadata.name} was judged in epoch {grant.status.epoch!r}, "
        f"and this is {epoch!r}: etcd was restored, and the controller has not judged it anew yet"
    )
