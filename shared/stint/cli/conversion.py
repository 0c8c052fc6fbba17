"""Commands that start fast: what is right as it was typed is not converted.

typer converts each option with pydantic, also a text into a text. To import pydantic takes as long as all else that a
command does before it asks the API.
"""

from typing import Any


def convert_sparingly(parameters: list[Any]) -> list[Any]:
    """The same parameters of a command, which are converted only if that could change, or refuse, a value."""
    for parameter in parameters:
        if not isinstance(parameter.process_value, _Sparing):
            parameter.process_value = _Sparing(parameter)
    return parameters


class _Sparing:
    """Stands in for a parameter's own conversion, which remains for all that this does not know."""

    def __init__(self, parameter: Any) -> None:
        self._parameter, self._convert = parameter, parameter.process_value

    def __call__(self, ctx: Any, value: Any) -> Any:
        parameter = self._parameter
        if not self._right(value):
            return self._convert(ctx, value)
        value = list(value) if isinstance(value, tuple) else value
        return parameter.callback(ctx, parameter, value) if parameter.callback else value

    def _right(self, value: Any) -> bool:
        parameter = self._parameter
        kind = getattr(parameter, "type_descriptor", None)
        annotation, choices = getattr(kind, "annotation", None), getattr(kind, "choices", None)
        if parameter.nargs != 1 or parameter.multiple:
            return bool(value) and annotation == list[str]
        if value is None:
            return not parameter.required
        if type(value) in {bool, str, int, float} and value == parameter.default:
            return True
        return value in choices if choices else annotation is str
