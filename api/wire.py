"""What all models of the Marathon API share: camelCase on the wire, snake_case in Python."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel


@lru_cache(1024)
def format_timestamp(moment: datetime) -> str:
    """Return a moment as Marathon writes it: UTC, three digits of fraction and a literal Z.

    The few last ones are kept, as one version is written many times: into the store, events and answers.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def parse_timestamp(text: str) -> datetime:
    """Return the moment, in UTC, that an ISO-8601 text with offset means.

    Raises
    ------
    ValueError
        The text is not ISO-8601, or names no offset, or a moment before the year 1 or after 9999.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"Invalid timestamp provided '{text}'. Expecting ISO-8601 datetime string."
        ) from None


def now() -> datetime:
    """Return the present in UTC, cut to the milliseconds that a timestamp on the wire can carry."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Timestamp = Annotated[datetime, PlainSerializer(format_timestamp, return_type=str, when_used="json")]


class Wire(BaseModel):
    """Base of every model that goes over the wire.

    Unknown fields of a response are kept, so that a newer Marathon does not
    break an older client; the server drops those of a request.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="allow",
        allow_inf_nan=False,
    )

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object of this model; absent values are left out, never null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_text(self) -> str:
        """Return the text of `to_wire`."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @classmethod
    def from_wire(cls, body: Any) -> Self:
        """Return the model of a response's JSON object."""
        return cls.model_validate(body, by_alias=True, by_name=False)

    @classmethod
    def from_request(cls, body: Any) -> Self:
        """Return the model of a request's JSON object: types are strict, unknown fields dropped.

        Raises
        ------
        pydantic.ValidationError
            With every violation of a type or of a limit.
        """
        return cls.model_validate(body, strict=True, by_alias=True, by_name=False, extra="ignore")
