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
        option: empty: it is not a mount option, and cannot be seen.
        is_refused: with several hosts; else it is a warning.
        says, remedy: of a report, without a full stop.
    """

    kinds: Sequence[str]
    option: str
    is_refused: bool
    says: str
    remedy: str

    @property
    def sentence(self) -> str:
        """What is reported, after the option or the filesystem that it is about."""
        return f"{self.option or self.kinds[0]}: {self.says}"


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
    # client_module/source/app/config/Config.c of BeeGFS: false is the default; no mount option
    Weakness(
        ("beegfs",),
        "",
        False,
        "locks hold on this host alone unless tuneUseGlobalFileLocks is true",
        "look at beegfs-client.conf, and run: wmtp doctor --lock-test",
    ),
)


def weaknesses(mount: Mount) -> list[Weakness]:
    """The options of a mount that harm."""
    seen = {*mount.options, ""}
    return [it for it in WEAKNESSES if mount.kind in it.kinds and it.option in seen]
