"""The run directory: where everything lies, its lock, its identities, and what was set aside."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from advrec.errors import AdvrecError, ConfigError
from advrec.run.files import HELD, TEMPORARY, UNSUPPORTED, read_json, write_json, writing
from advrec.run.log import say
from advrec.spec.attacks import AUTO, AUTO_1
from advrec.spec.label_free import TRAIN
from advrec.spec.models import without_paths

AUTOGRAD, FUSED, LEVELS, CHAINS = 4, 5, 6, 7
"""Protocols: gradients by autograd (0.1.0, 0.2.0); by the fused step, which may differ in the last
bits (0.3.0); the same, and what a delivery gets has 8 bits within the budget; the same, and the
unchanged image is ranked after each delivery too, and gradients see what a JPEG does.
"""
PROTOCOLS = (AUTOGRAD, FUSED, LEVELS, CHAINS)
"""Those that this version still makes rows by."""
IMAGES = "images/"  # what the key of an image that was set aside begins with
UNKNOWN = "interactions/"  # and that of an article that was bought and is not in the catalog


def meant(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded identity with the keys that later versions added, as the earlier ones did it:
    before 0.3.0 every attack was blind, none but for rank 1, no step was fused, and `auto` was what
    is auto-1 now. Defenses without labels took the training split. Files were named by their paths.
    """
    whole = {"through": [], "rank": 1, "protocol": AUTOGRAD, "images": TRAIN, **recorded}
    whole |= without_paths(whole)
    if whole.get("attack") == AUTO and whole["protocol"] < FUSED:
        whole["attack"] = AUTO_1
    return whole


class Run:
    """One run directory. Only the driver writes to it; everything else reads."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).resolve()
        if (name := os.fsencode(self.directory)).decode(errors="ignore").encode() != name:
            shown = name.decode(errors="backslashreplace")
            raise ConfigError(f"{shown} is no UTF-8, as names in results must be; rename it")
        self.study = self.directory / "study.yaml"
        self.provenance = self.directory / "provenance.json"
        self.catalog = self.directory / "catalog.parquet"
        self.preparation = self.directory / "preparation.json"
        self.listing = self.directory / "listing.parquet"
        self.near_duplicates = self.directory / "near_duplicates.parquet"
        self.images = self.directory / "images"
        self.prepared = self.directory / "prepared"
        self.interactions = self.directory / "interactions.parquet"
        self.users = self.directory / "users.parquet"
        self.tuples = self.directory / "tuples.parquet"
        self.promoted = self.directory / "promoted.parquet"
        self.targets = self.directory / "targets.parquet"
        self.attacks = self.directory / "attacks"
        self.promotions = self.directory / "promotions"
        self.category_attacks = self.directory / "category_attacks"
        self.checks = self.directory / "checks"
        self.promotion_checks = self.directory / "promotion_checks"
        self.examples = self.directory / "examples"
        self.report = self.directory / "report"
        self.log = self.directory / "advrec.log"
        self._identities = self.directory / "identities.json"
        self._set_aside = self.directory / "set_aside.json"

    def shard(self, shard: int) -> Path:
        """A run of listed images, prepared; there while the catalog is not."""
        return self.prepared / f"shard-{shard:06d}.parquet"

    def training_images(self, folder: str) -> "Run":
        """The images of a folder that defenses without labels train on: prepared, as a catalog."""
        name = hashlib.sha256(folder.encode()).hexdigest()[:12]
        return Run(self.directory / "training_images" / name)

    def model(self, model: str) -> Path:
        return self.directory / "models" / model

    def weights(self, model: str) -> Path:
        return self.model(model) / "model.safetensors"

    def bank(self, model: str) -> Path:
        """Factors of a hybrid; it has no weights of a network."""
        return self.model(model) / "bank.safetensors"

    def seen(self, model: str) -> Path:
        """Table of the purchases that a hybrid was trained on."""
        return self.model(model) / "seen.parquet"

    def users_of(self, model: str) -> Path:
        """Table of the users of a hybrid: a copy of the run's."""
        return self.model(model) / "users.parquet"

    def is_trained(self, model: str) -> bool:
        """Say whether a model is there: its weights, or its factors."""
        return self.weights(model).exists() or self.bank(model).exists()

    def training(self, model: str) -> Path:
        """Directory of unfinished trainings, each in one of its own with all it needs to go on."""
        return self.model(model) / ".training"

    def history(self, model: str) -> Path:
        """Table of the epochs of its training."""
        return self.model(model) / "history.parquet"

    def health(self, model: str) -> Path:
        return self.model(model) / "health.json"

    def index(self, model: str) -> Path:
        return self.model(model) / "index.json"

    def lists(self, model: str) -> Path:
        return self.model(model) / "lists.parquet"

    def changes(self, model: str) -> Path:
        """Table of what a defense without labels changed against its original."""
        return self.model(model) / "changes.parquet"

    def forget_measurements(self, model: str) -> None:
        """Drop the measurements of a model's earlier weights, before new ones are saved."""
        for path in (self.index, self.health, self.lists, self.changes):
            path(model).unlink(missing_ok=True)

    def embeddings(self, model: str) -> Path:
        return self.directory / "embeddings" / f"model={model}"

    def embedding_shard(self, model: str, shard: int) -> Path:
        return self.embeddings(model) / f"part-{shard:06d}.parquet"

    def block(self, model: str, attack: str, block: int, part: str = "attacks") -> Path:
        """A file of outcomes; `part` is attacks, promotions, promotion_ranks, category_attacks, or
        checks and promotion_checks for what the evaluation measures about itself.
        """
        return (
            self.directory
            / part
            / f"model={model}"
            / f"attack={attack}"
            / f"block-{block:06d}.parquet"
        )

    def example_block(self, model: str, attack: str, block: int) -> Path:
        return self.examples / f"model={model}" / f"attack={attack}" / f"block-{block:06d}.parquet"

    # Identities: what determined each part of the run. A part is never mixed with rows of another
    # origin.

    def identities(self) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = read_json(self._identities, default={})
        return known

    def difference(
        self, part: str, recorded: Mapping[str, Any] | None, identity: Mapping[str, Any]
    ) -> str | None:
        """Compare a part of the run with what a study says.

        Why only the keys given: before any work a study does not know the hashes that `claim` adds
        later.

        Args:
            recorded: what determined the part; None: nobody knows.

        Returns:
            The key that differs, both values, and how to go on; None: nothing differs.
        """
        if recorded is None:
            return None
        recorded = meant(recorded)
        for key in sorted(identity):
            if key == "ranks_of" and identity[key] <= recorded.get(key, 0):
                continue  # more are kept than are asked for
            if recorded.get(key) != identity[key]:
                if key == "attack" and recorded.get(key) == AUTO_1:
                    name = part.rpartition("/")[2]
                    return (
                        f"{self.directory} holds {part} made by the first edition of {AUTO}; to go "
                        f"on with it write {{name: {name}, attack: {AUTO_1}}}, or give the new "
                        "attack another name"
                    )
                if key == "protocol":
                    return (
                        f"{self.directory} holds {part} half done by another version of advrec, "
                        f"whose rows differ in the last bits (protocol {recorded[key]}, here "
                        f"{identity[key]}); finish it with that version, or name another --out"
                    )
                # a model or an attack has one
                other = ", or give the changed entry another name" if "/" in part else ""
                if key == "ranks_of":
                    other = ": ranks are kept as rows are made, and none are added to rows"
                return (
                    f"{self.directory} holds {part} made with "
                    f"{key} = {_shown(recorded.get(key))}, the study says "
                    f"{_shown(identity[key])}; name another --out{other}"
                )
        return None

    def check_identity(self, part: str, identity: Mapping[str, Any]) -> None:
        """Refuse a part of the run that something else determined: raises ConfigError."""
        reason = self.difference(part, self.identities().get(part), identity)
        if reason is not None:
            raise ConfigError(reason)

    def claim(self, part: str, identity: Mapping[str, Any], *, made: bool) -> None:
        """Record what determines a part before its first file is written.

        Args:
            made: whether the part has a file already; then this raises as `check_identity` does.
                Otherwise an earlier claim, of work that failed or was stopped, binds nobody.
        """
        if made:
            self.check_identity(part, identity)
        write_json(self._identities, self.identities() | {part: dict(identity)})

    # Set aside: work given up on, by key, with the reason.

    def set_aside(self) -> dict[str, str]:
        reasons: dict[str, str] = read_json(self._set_aside, default={})
        return reasons

    def images_set_aside(self) -> dict[str, str]:
        """The images among what was set aside, by name."""
        return {
            key.removeprefix(IMAGES): reason
            for key, reason in self.set_aside().items()
            if key.startswith(IMAGES)
        }

    def write_set_aside(self, reasons: Mapping[str, str]) -> None:
        if reasons or self._set_aside.exists():
            write_json(self._set_aside, dict(reasons))

    def require_catalog(self) -> None:
        """Refuse to go on before there is a catalog: raises AdvrecError."""
        if not self.catalog.exists():
            raise self._not_yet("the catalog is not prepared", "prepare")

    def require_interactions(self) -> None:
        """Refuse to go on before the interactions are there: raises AdvrecError."""
        if not self.interactions.exists():
            raise self._not_yet("the interactions are not prepared", "prepare")

    def require_weights(self, model: str) -> None:
        """Refuse to go on before there is the model: raises AdvrecError."""
        if not self.is_trained(model):
            raise self._not_yet(f"the model {model} is not trained", "train")

    def _not_yet(self, what: str, stage: str) -> AdvrecError:
        return AdvrecError(
            f"{self.directory}: {what} yet; run `advrec {stage}` first, "
            "or `advrec study` for all stages"
        )

    def check_directory(self) -> None:
        """Refuse a directory that holds something else than a run: raises ConfigError."""
        if (
            self.directory.is_dir()
            and any(self.directory.iterdir())
            and not (self.study.exists() or (self.directory / ".lock").exists())
        ):
            raise ConfigError(
                f"{self.directory} holds files that are no run of advrec; "
                "name a new or empty directory in --out"
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run directory for one driver.

        The kernel frees the lock when its holder dies, however it dies. Where the file system has
        no locks, that is said and nothing is locked.

        Raises:
            AdvrecError: another driver holds it, or the directory cannot be written.
        """
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            handle = (self.directory / ".lock").open("a+")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in HELD:
                    raise AdvrecError(
                        f"{self.directory} is in use by another advrec ({_holder(handle)}); "
                        "wait for it, or name another --out"
                    ) from None
                if error.errno not in (*UNSUPPORTED, errno.ENOLCK):
                    raise
                say(
                    f"{self.directory}: its file system has no locks ({error.strerror}), so start "
                    "no second advrec on it; a local --out has locks, and `advrec push` copies it"
                )
            handle.truncate(0)
            with contextlib.suppress(OSError):  # a full disk: whoever writes results says so
                handle.write(f"process {os.getpid()} on {platform.node()}")
                handle.flush()
            yield

    def driver(self) -> str | None:
        """Who holds the run directory now; None: nobody."""
        with contextlib.suppress(FileNotFoundError), (self.directory / ".lock").open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:  # where there are no locks, nobody is known
                return _holder(handle) if error.errno in HELD else None
        return None


def open_run(directory: Path | str) -> Run:
    """A run directory that exists.

    Raises:
        ConfigError: it holds no study.yaml, and so is none.
    """
    run = Run(directory)
    if not run.study.exists():
        raise ConfigError(
            f"{directory}: is not a run directory (it holds no study.yaml); name one below results/"
        )
    return run


def remove_leftovers(run: Run) -> None:
    """Delete temporary files that a killed driver left, and nothing else. Call it with the lock
    held.
    """
    for path in run.directory.rglob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read().strip() or "unknown"


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
