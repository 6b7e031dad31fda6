"""Mount options with which several hosts cannot share a storage root, or should not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wmtp_assets.storage.mounts import Mount

LOCAL = "locks hold on this host alone, so that two hosts would write one artifact at the same time"
NONE = "there are no file locks at all"
STALE = "folders that another host has exchanged are seen late"
LOST = "a write that takes too long is given up, and data is lost"


@dataclass(frozen=True)
class Weakness:
    """A mount option that harms.

    Attributes:
        kinds: the filesystems that have it.
        is_refused: with several hosts; else it is a warning.
        says, remedy: of a report, without a full stop.
    """

    kinds: Sequence[str]
    option: str
    is_refused: bool
    says: str
    remedy: str


NFS = ("nfs", "nfs4")
WEAKNESSES = (
    # nfs(5); the options are shown as fs/nfs/super.c of Linux writes them
    Weakness(NFS, "local_lock=all", True, LOCAL, "mount it without local_lock and nolock"),
    Weakness(NFS, "local_lock=flock", True, LOCAL, "mount it without local_lock"),
    Weakness(NFS, "nolock", True, LOCAL, "mount it without nolock"),
    Weakness(NFS, "nocto", False, STALE, "mount it without nocto"),
    Weakness(NFS, "soft", False, LOST, "mount it with hard, as is the default"),
    Weakness(NFS, "softerr", False, LOST, "mount it with hard, as is the default"),
    # mount.lustre(8)
    Weakness(("lustre",), "localflock", True, LOCAL, "mount it with -o flock"),
    Weakness(("lustre",), "noflock", True, NONE, "mount it with -o flock"),
    # mount.cifs(8)
    Weakness(("cifs", "smb3"), "nobrl", True, LOCAL, "mount it without nobrl"),
)


def weaknesses(mount: Mount) -> list[Weakness]:
    """The options of a mount that harm."""
    return [it for it in WEAKNESSES if mount.kind in it.kinds and it.option in mount.options]
