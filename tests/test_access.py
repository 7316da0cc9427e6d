"""Keys and request ids."""

from __future__ import annotations

import pytest

from router.access import Keys, request_id
from router.errors import Unauthorized


def test_no_keys_means_open() -> None:
    Keys(()).check({})


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer b"}, {"authorization": "bearer  b "}, {"x-api-key": "a"}]
)
def test_accepted(headers: dict[str, str]) -> None:
    Keys(("a", "b")).check(headers)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer"}, {"authorization": "Bearer ab"}, {"authorization": "a"}, {"x-api-key": "\udcff"}])  # fmt: skip
def test_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized) as caught:
        Keys(("a", "b")).check(headers)
    assert caught.value.headers["www-authenticate"] == "Bearer"


def test_request_ids_are_kept_if_safe() -> None:
    assert request_id({"x-request-id": "a-1"}) == "a-1"
    for unsafe in ("", "a b", "a\r\nb", "x" * 200, "ü"):
        made = request_id({"x-request-id": unsafe})
        assert made != unsafe and made.isalnum()
