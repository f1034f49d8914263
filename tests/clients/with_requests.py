"""Python's requests through the proxy: `with_requests.py URL`."""

import sys

import requests

url = sys.argv[1]
with requests.Session() as session:
    for n in range(50):
        assert session.get(f"{url}/{n}").text == f"GET /{n} http"
    assert session.head(f"{url}/x").headers["Content-Length"] == "12"
    assert session.get(f"{url}/redirect").text == "GET /after http"
    assert session.get(f"{url}/chunked").text == "".join(f"{n}," for n in range(50))
    large = b"0123456789abcdef" * 65_536
    assert session.post(f"{url}/", data=large).content == large
    assert session.put(f"{url}/", data=(large[at : at + 50_000] for at in range(0, len(large), 50_000))).content == large
    assert session.delete(f"{url}/x").text == "DELETE /x http"
    answer = session.get(f"{url}/x", headers={"X-Forwarded-Proto": "https"})
    assert answer.text == "GET /x http" and answer.headers["Via"] == "1.1 sc", answer.text
