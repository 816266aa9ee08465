"""The CRM's HTTP interface, as far as a load needs it."""

import http.client
import json
import urllib.parse


class Refused(Exception):
    """The CRM does not take the chunk; trying again cannot help this attempt."""


class Crm:
    """One connection, kept open over all chunks of a batch."""

    def __init__(self, url: str, stamp: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        self._stamp = stamp

    def post(self, idempotency_key: str, records: list[dict]) -> str:
        """Sends one chunk. Answers `stored`, or `known` when the CRM has it from an earlier attempt."""
        body = json.dumps(records, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key, **self._stamp}
        self._connection.request("POST", "/records", body, headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise Refused(f"chunk {idempotency_key}: {answer.status} {text}")
        return json.loads(text)["result"]
