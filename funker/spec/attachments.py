"""What a function is given besides its image: secrets, configs, mounts and networks.

Each is a frozen value with a `parse` for Docker's spelling of the flag of the same name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_validator,
)

from funker.spec.values import SpecError, parse_size

_TRUE = {"", "1", "true", "yes"}
_FALSE = {"0", "false", "no"}


class Value(BaseModel):
    """A frozen value whose mistakes are `SpecError`, however it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _mistakes_are_spec_errors(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(data)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or cls.__name__.lower()
            problem = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
            if first["type"] == "extra_forbidden":
                names = ", ".join(sorted(cls.model_fields))
                raise SpecError(where, "no such setting", hint=f"There are {names}.") from exc
            raise SpecError(where, f"{problem}, got {first['input']!r}") from exc


class _File(Value):
    source: str = Field(min_length=1)
    #: Where it is put: for a secret a name in /run/secrets or a path, for a config a path.
    target: str = Field(min_length=1)
    uid: str = "0"
    gid: str = "0"
    #: Permission bits. Docker's default lets the function's own user (uid 10001) read.
    mode: int = Field(default=0o444, ge=0, le=0o7777)


class Secret(_File):
    """A swarm secret as a file in the function's containers."""

    @classmethod
    def parse(cls, text: str) -> Secret:
        """From `db_pass` or `source=db_pass,target=password,uid=10001,gid=10001,mode=0400`."""
        return cls(**_file_fields("secret", text, target_prefix=""))


class Config(_File):
    """A swarm config as a file in the function's containers."""

    @classmethod
    def parse(cls, text: str) -> Config:
        """From `settings` (becomes `/settings`) or `source=settings,target=/etc/app.toml`."""
        return cls(**_file_fields("config", text, target_prefix="/"))


class Mount(Value):
    """A bind, a volume or a tmpfs in the function's containers."""

    type: Literal["bind", "volume", "tmpfs"] = "volume"
    source: str = ""
    target: str
    read_only: bool = False
    #: Of a tmpfs: bytes and permission bits.
    tmpfs_size: int | None = None
    tmpfs_mode: int | None = None
    #: Of a volume that doesn't exist yet on a node: its driver and the driver's options.
    volume_driver: str = ""
    volume_options: dict[str, str] = Field(default_factory=dict)
    volume_nocopy: bool = False
    bind_propagation: str = ""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Mount:
        if not self.target.startswith("/"):
            raise SpecError("mount", f'target "{self.target}" is no absolute path')
        if self.type == "bind" and not self.source.startswith("/"):
            raise SpecError(
                "mount",
                "a bind needs the absolute path of a directory on the node",
                hint="Write `--mount type=bind,source=/srv/data,target=/data`.",
            )
        if self.type == "tmpfs" and self.source:
            raise SpecError("mount", "a tmpfs has no source", hint="Leave `source` out.")
        return self

    @classmethod
    def parse(cls, text: str) -> Mount:
        """From `type=tmpfs,target=/tmp,tmpfs-size=64m`, `type=bind,source=/a,target=/b,ro`..."""
        fields: dict[str, Any] = {}
        for key, value in _entries("mount", text):
            match key:
                case "type" | "bind-propagation" | "volume-driver":
                    fields[key.replace("-", "_")] = value
                case "source" | "src":
                    fields["source"] = value
                case "target" | "dst" | "destination":
                    fields["target"] = value
                case "readonly" | "ro":
                    fields["read_only"] = _boolean("mount", key, value)
                case "volume-nocopy":
                    fields["volume_nocopy"] = _boolean("mount", key, value)
                case "tmpfs-size":
                    fields["tmpfs_size"] = parse_size(value, field="mount: tmpfs-size")
                case "tmpfs-mode":
                    fields["tmpfs_mode"] = _mode("mount", value)
                case "volume-opt":
                    name, _, option = value.partition("=")
                    fields.setdefault("volume_options", {})[name] = option
                case "consistency":
                    pass  # Docker reads it and does nothing with it
                case _:
                    raise _unknown("mount", key, _MOUNT_KEYS)
        if "target" not in fields:
            raise SpecError("mount", f'"{text}" has no target', hint="Add `target=/path`.")
        return cls(**fields)


class Network(Value):
    """A network that the function joins besides `funker`, and its extra names there."""

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Network:
        """From `shop` or `name=shop,alias=pricing,alias=prices`."""
        if not re.search(r"[=,]", text):
            return cls(name=text.strip())
        name = ""
        aliases = []
        for key, value in _entries("network", text):
            match key:
                case "name":
                    name = value
                case "alias":
                    aliases.append(value)
                case _:
                    raise _unknown("network", key, ("name", "alias"))
        if not name:
            raise SpecError("network", f'"{text}" has no name', hint="Add `name=NETWORK`.")
        return cls(name=name, aliases=tuple(aliases))


_FILE_KEYS = ("source", "target", "uid", "gid", "mode")
_MOUNT_KEYS = (
    "type",
    "source",
    "target",
    "readonly",
    "tmpfs-size",
    "tmpfs-mode",
    "volume-driver",
    "volume-opt",
    "volume-nocopy",
    "bind-propagation",
)


def _file_fields(field: str, text: str, *, target_prefix: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if re.search(r"[=,]", text):
        for key, value in _entries(field, text):
            match key:
                case "source" | "src":
                    fields["source"] = value
                case "target" | "uid" | "gid":
                    fields[key] = value
                case "mode":
                    fields["mode"] = _mode(field, value)
                case _:
                    raise _unknown(field, key, _FILE_KEYS)
    else:
        fields["source"] = text.strip()
    if not fields.get("source"):
        raise SpecError(field, f'"{text}" has no source', hint=f"Write `--{field} NAME`.")
    fields.setdefault("target", target_prefix + fields["source"])
    return fields


def _entries(field: str, text: str) -> list[tuple[str, str]]:
    """The `key=value` entries of a comma-separated flag. A value with commas stands in quotes."""
    try:
        row = next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration) as exc:
        raise SpecError(field, f'can\'t read "{text}": {exc or "it is empty"}') from exc
    entries = [entry.strip().partition("=") for entry in row if entry.strip()]
    return [(key.strip().lower(), value) for key, _, value in entries]


def _mode(field: str, text: str) -> int:
    if re.fullmatch(r"[0-7]{1,4}", text):
        return int(text, 8)
    raise SpecError(field, f'mode "{text}" isn\'t octal', hint="Write it like `mode=0440`.")


def _boolean(field: str, key: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise SpecError(field, f'{key} is "{text}"', hint=f"Write `{key}=true` or `{key}=false`.")


def _unknown(field: str, key: str, known: Collection[str]) -> SpecError:
    return SpecError(field, f'unknown key "{key}"', hint=f"The keys are {', '.join(known)}.")
