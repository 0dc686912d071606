from __future__ import annotations

import pytest

from nattrav.cli.status import duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.9, "8s"), (723, "12m 3s"), (7500, "2h 5m"), (273_600, "3d 4h"), (0, "0s")]
)
def test_durations_read_like_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
