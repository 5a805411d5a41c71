"""Two filesystems for fsspec: a slow one, and one that kills whoever opens a certain file, as a
decoder that crashes would. A process that imports this module can use them.
"""

import os
import signal
import time

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Slow(fsspec.AbstractFileSystem):
    protocol = "slow"
    local = LocalFileSystem()

    def ls(self, path, detail=True, **options):
        return self.local.ls(path, detail=detail)

    def cat_file(self, path, **options):
        time.sleep(0.01)
        return self.local.cat_file(path, **options)


class Deadly(Slow):
    protocol = "deadly"

    def cat_file(self, path, **options):
        if path.endswith("deadly.jpg"):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.local.cat_file(path, **options)


for filesystem in (Slow, Deadly):
    fsspec.register_implementation(filesystem.protocol, filesystem)
