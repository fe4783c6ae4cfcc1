"""A check that a server answers: one request through the pools of a transfer, without following redirects."""

from __future__ import annotations

import os
from collections.abc import Mapping

import urllib3
from urllib3.exceptions import HTTPError

from labctl.model.errors import LabError
from labctl.transfer import failures
from labctl.transfer.pools import Pools

SECONDS = 4.0
"""Time limit to connect to the server and receive its response."""


def unreachable(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return why no server answers at this URL, through the user's proxy; empty if one does, whatever its status."""
    pools = Pools(environment)
    try:
        response = pools.manager(url).request(
            "HEAD",
            url,
            redirect=False,
            retries=False,
            preload_content=False,
            timeout=urllib3.Timeout(total=SECONDS),
        )
        response.close()
    except HTTPError as error:
        return failures.from_error(error, url, pools.proxy(url), reached=False).message
    except LabError as error:  # the proxy, or the file with certificates, cannot be used
        return error.message
    finally:
        pools.close()
    return ""
