#!/usr/bin/env bash
# pydantic 2.14.4 (and the dataclasses of Python, not attrs 26.1.0): a class with two bases that share
# a parent does not get its fields by the order in which Python looks up attributes. A field that the
# first base merely inherits wins over the same field that the second base redefines. So a mixin in
# front of a settings class quietly takes back its defaults, and may make a required field optional.
#
# Seen: plain class 2, attrs 2, pydantic 1, dataclass 1; pydantic's "must" is required in the second
# base and not required in the class
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pydantic==2.14.4 attrs==26.1.0
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import dataclasses

import attrs
import pydantic


class Plain:
    batch = 1


class PlainMixin(Plain):
    pass


class PlainSettings(Plain):
    batch = 2


class PlainBoth(PlainMixin, PlainSettings):
    pass


class Model(pydantic.BaseModel):
    batch: int = 1
    must: str = "none"


class Mixin(Model):
    more: int = 0


class Settings(Model):
    batch: int = 2
    must: str


class Both(Mixin, Settings):
    pass


@dataclasses.dataclass
class Data:
    batch: int = 1


@dataclasses.dataclass
class DataMixin(Data):
    pass


@dataclasses.dataclass
class DataSettings(Data):
    batch: int = 2


@dataclasses.dataclass
class DataBoth(DataMixin, DataSettings):
    pass


@attrs.define(slots=False)
class Attrs:
    batch: int = 1


@attrs.define(slots=False)
class AttrsMixin(Attrs):
    pass


@attrs.define(slots=False)
class AttrsSettings(Attrs):
    batch: int = 2


@attrs.define(slots=False)
class AttrsBoth(AttrsMixin, AttrsSettings):
    pass


found = PlainBoth().batch, AttrsBoth().batch, Both().batch, DataBoth().batch
required = Settings.model_fields["must"].is_required(), Both.model_fields["must"].is_required()
print("plain, attrs, pydantic, dataclass:", found, "required in Settings, in Both:", required)
assert found == (2, 2, 1, 1)
assert required == (True, False)
PYTHON
