"""Traits that are overridden for one start, and put back before the next.

JupyterHub overrides traits by `group_overrides`, and never takes it back; nor does kubespawner
with its profiles. A spawner object that is started twice would keep what the first start gave it:
here a server gets what its own group, user and profile say, and nothing of the last one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy, deepcopy
from functools import cache
from typing import Any, Self

from traitlets import HasTraits, TraitError, TraitType

_UNSET = object()


@cache
def configurable_traits(kind: type[HasTraits]) -> Mapping[str, TraitType[Any, Any]]:
    """Return the traits of a class that can be configured, by name; to go through all takes its time."""
    return kind.class_traits(config=True)


def merged(current: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict with another laid over it, as JupyterHub's `group_overrides` does.

    Dicts within are laid over each other likewise; None removes a key. Neither argument is changed.
    """
    result = {key: deepcopy(value) for key, value in current.items() if key not in override}
    for key, value in override.items():
        if isinstance(value, Mapping):
            below = current.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        elif value is not None:
            result[key] = deepcopy(value)
    return result


class Overridable(HasTraits):
    """Traits that remember what they were before they were overridden."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._originals: dict[str, Any] = {}

    def traits(self, **metadata: Any) -> dict[str, TraitType[Any, Any]]:
        """Return the traits with some metadata; each new spawner asks for those that can be configured."""
        if metadata == {"config": True}:
            return dict(configurable_traits(type(self)))
        return super().traits(**metadata)

    def override(self, name: str, value: Any, from_text: bool = False) -> None:
        """Set a trait until `undo_overrides`; a dict is laid over a dict.

        Parameters
        ----------
        from_text
            The value may be text that stands for a number, as on a command line.

        Raises
        ------
        TraitError
            The trait does not take the value.
        """
        if name not in self._originals:
            values = self._trait_values if self.has_trait(name) else self.__dict__
            self._originals[name] = values.get(name, _UNSET)
        current = getattr(self, name, None)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            value = merged(current, value)
        else:
            value = deepcopy(value)
        try:
            setattr(self, name, value)
        except TraitError:
            if not from_text or not isinstance(value, str):
                raise
            setattr(self, name, _read(self.traits()[name], value))

    def is_overridden(self, name: str) -> bool:
        """Whether a trait is overridden now."""
        return name in self._originals

    def undo_overrides(self) -> None:
        """Put back everything that was overridden."""
        originals, self._originals = self._originals, {}
        for name, original in originals.items():
            if original is not _UNSET:
                setattr(self, name, original)
            elif self.has_trait(name):
                self._trait_values.pop(name, None)  # its default is computed again
            else:
                self.__dict__.pop(name, None)

    def draft(self) -> Self:
        """Return a copy to try overrides on, which are not seen here."""
        other = copy(self)
        other._originals = dict(self._originals)
        return other

    def _apply_overrides(self, spawner_override: Mapping[str, Any]) -> None:
        """Do what JupyterHub's method of this name does, in a way that can be undone."""
        for name, value in spawner_override.items():
            self.override(name, value(self) if callable(value) else value)


def _read(trait: Any, text: str) -> Any:
    try:
        return trait.from_string(text)
    except (ValueError, TypeError) as error:
        raise TraitError(str(error)) from error
