"""A method's hyper-parameters: what they are, and the checked values of one run.

They are the dataclass fields that its constructor takes. A field's annotation is its type and, through pydantic's
`Field`, its range and its description: `coreset_ratio: Annotated[float, Field(gt=0, le=1, description="...")] = 0.1`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ltbench.errors import SpecError, UnknownNameError, cut
from ltbench.method import AddedLater, Method, Probe
from ltbench.plain_yaml import parse_yaml


@dataclass(frozen=True, slots=True)
class HyperParameter:
    """One hyper-parameter of a method.

    Args:
        name: the field's name.
        annotation: its annotated type, with range and description.
        default: its default value.
    """

    name: str
    annotation: Any
    default: Any

    @property
    def type_name(self) -> str:
        """The type as a reader would write it: `float`, `tuple[int, ...]`, `'exact' | 'approximate'`."""
        return _type_name(_bare(self.annotation))

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a `Literal`, else nothing."""
        bare = _bare(self.annotation)
        return get_args(bare) if _is_literal(bare) else ()

    @property
    def description(self) -> str:
        """What it means, or "" if the method does not say."""
        return next((m.description for m in self._metadata if isinstance(m, FieldInfo) and m.description), "")

    @property
    def probe(self) -> Probe | None:
        """How the contract check varies it, if the method says so."""
        return next((m for m in self._metadata if isinstance(m, Probe)), None)

    @property
    def is_added_later(self) -> bool:
        """Whether runs leave it out of their identity at its default (`ltbench.method.AddedLater`)."""
        return any(isinstance(m, AddedLater) or m is AddedLater for m in self._metadata)

    @property
    def _metadata(self) -> tuple[Any, ...]:
        """What is said about the type, the outermost first: a method may add to a type of `blocks.*.settings`."""
        return get_args(self.annotation)[:0:-1] if get_origin(self.annotation) is Annotated else ()

    def validate(self, value: object) -> Any:
        """Return the value as the field's type (a list as a tuple, `1e-3` as a number).

        Raises:
            SpecError: the value has another type or lies outside the range.
        """
        adapter: TypeAdapter[Any] = TypeAdapter(self.annotation)
        try:
            return adapter.validate_json(json.dumps(value, allow_nan=False), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            number = _as_number(value)  # YAML 1.1 reads 1e-3 as text
            if number is not None:
                return self.validate(number)
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise SpecError(
                f"Expected {self.type_name} for hyper-parameter {self.name!r}, got {cut(repr(value))} ({_lower(why)}). "
                f"Its default is {self.default!r}."
            ) from None


def hyper_parameters(method: type[Method]) -> tuple[HyperParameter, ...]:
    """Return the hyper-parameters of a method, in the order of its fields.

    Raises:
        SpecError: the class is no dataclass, or a field has no default.
    """
    if not hasattr(method, "__dataclass_fields__"):
        raise SpecError(f"Expected a dataclass, got {method.__name__}. Decorate it with @dataclass.")
    hints = get_type_hints(method, include_extras=True)
    return tuple(
        HyperParameter(field.name, hints[field.name], _default(method, field))
        for field in dataclasses.fields(method)  # type: ignore[arg-type]
        if field.init
    )


def resolve(method: type[Method], *settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every hyper-parameter of a method, the defaults overridden by each of the settings in turn.

    Raises:
        UnknownNameError: a setting that is no field; the nearest name is offered.
        SpecError: a value of the wrong type or range.
    """
    return resolve_among(hyper_parameters(method), method.info.name, *settings)


def resolve_among(parameters: Iterable[HyperParameter], method: str, *settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `resolve` does, for the hyper-parameters of a method of that name."""
    known = {parameter.name: parameter for parameter in parameters}
    values = {name: parameter.default for name, parameter in known.items()}
    for setting in settings:
        for name, value in setting.items():
            if name not in known:
                raise UnknownNameError(f"hyper-parameter of {method}", name, known)
            values[name] = known[name].validate(value)
    return values


def identifying(method: type[Method], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters that name a run: all but those that were added later and have their default."""
    later = defaults_added_later(hyper_parameters(method))
    return {name: value for name, value in values.items() if name not in later or value != later[name]}


def defaults_added_later(parameters: Iterable[HyperParameter]) -> dict[str, Any]:
    """Return the defaults of hyper-parameters that were added later."""
    return {parameter.name: parameter.default for parameter in parameters if parameter.is_added_later}


def completed(method: type[Method], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's hyper-parameters with those that `identifying` left out, as plain JSON values."""
    return plain(defaults_added_later(hyper_parameters(method))) | dict(values)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters as plain JSON values (tuples as lists), as a `RunSpec` holds them."""
    result: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return result


def parse_assignments(
    assignments: Iterable[str], option: str = "-p", example: str = "coreset_ratio=0.01"
) -> dict[str, Any]:
    """Return `["coreset_ratio=0.01", "layers=[2, 3]"]` as a mapping; values are read as YAML.

    Args:
        assignments: what was written.
        option: the option of the command line that they were written with, for errors.
        example: what could be written, for errors.

    Raises:
        SpecError: no `=`, text that is no YAML value, or a name twice.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip() or not text.strip():
            raise SpecError(
                f"Expected {option} key=value, got {cut(assignment)!r}. Write for example {option} {example}, and "
                "null for no value."
            )
        if name.strip() in result:
            raise SpecError(f"Expected {name.strip()} once, got it twice. Leave one {option} {name.strip()}=... out.")
        try:
            result[name.strip()] = parse_yaml(text)
        except yaml.YAMLError:
            raise SpecError(
                f"Expected a value in {option} {cut(assignment)!r}, got text that is not YAML. Quote it."
            ) from None
    return result


def _default(method: type[Method], field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise SpecError(f"Expected a default for {method.__name__}.{field.name}, got none. Give every field a default.")


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_literal(bare: Any) -> bool:
    return getattr(get_origin(bare), "__name__", str(get_origin(bare))).endswith("Literal")


def _type_name(bare: Any) -> str:
    if _is_literal(bare):
        return " | ".join(repr(choice) for choice in get_args(bare))
    if isinstance(bare, type) and not get_args(bare):
        return bare.__name__
    return str(bare).replace("typing.", "").replace("NoneType", "None")


def _as_number(value: object) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
