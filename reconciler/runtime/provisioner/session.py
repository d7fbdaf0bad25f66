"""The HTTP client that registries are spoken to with. Imported once something is pulled: `requests` takes its time."""

from __future__ import annotations

import requests


class Session(requests.Session):
    """Sends what it is told to, and nothing by itself: no credentials of ~/.netrc, and no redirect is followed. Those
    would be read to their end, however long that is, even where the caller wants none followed."""

    def __init__(self) -> None:
        super().__init__()
        self.auth = lambda request: request

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None
