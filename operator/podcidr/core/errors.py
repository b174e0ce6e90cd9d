"""Errors of the core, named for the fact.

PodcidrError
└── BadValue          a field whose value cannot be used: names the field, the value and the remedy
"""


class PodcidrError(Exception):
    """Root of what the core can object to."""


class BadValue(PodcidrError):
    """A value a person wrote that cannot be used."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: {value!r}: {remedy}")
        self.field, self.value, self.remedy = field, value, remedy
