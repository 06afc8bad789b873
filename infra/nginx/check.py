"""What nginx refuses or misses itself is a problem like the API's own, and what the API refuses comes through as it is.

Called by infra/local/rolling: check.py PORT TLS_PORT PLAIN_PORT, or check.py PORT --away while no API process is there. On PORT a second request to
/limited and /crowded within a minute is over limit_req. Problems are held against the table of docs/PROBLEMS.md.
"""

import contextlib
import json
import pathlib
import re
import socket
import ssl
import sys

TABLE = (pathlib.Path(__file__).parents[2] / "docs/PROBLEMS.md").read_text()
CATALOGUE = {code: (int(status), title) for code, status, title in re.findall(r"^\| `(\w+)` \| (\d+) \| (.*?) \|", TABLE, re.MULTILINE)}
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}
LARGEST_BODY = 101 << 20


def exchange(port, request, tls=False):
    """Sends bytes and gives status, headers and body of what is answered, up to the end of the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection, server_hostname="api.example.org")
        # Who refuses early reads no further: sending may fail, and the answer is there.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(request)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := connection.recv(65536):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert status.startswith("HTTP/1.1 "), (request[:80], answer[:200])
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", body, re.DOTALL))
    return int(status.split()[1]), headers, body


def is_problem(code, port, request, tls=False):
    status, headers, body = exchange(port, request, tls)
    assert headers.get("content-type") == "application/problem+json", (request[:80], status, headers, body[:200])
    problem = json.loads(body)
    expected_status, title = CATALOGUE[code]
    assert (status, problem["status"], problem["title"]) == (expected_status, expected_status, title), (request[:80], status, problem)
    assert problem["code"] == code and problem["type"] == f"/problems/{code}" and problem["detail"].endswith("."), problem
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}, problem
    assert headers["x-request-id"] == problem["request_id"] and HEADERS.items() <= headers.items(), (request[:80], headers)
    assert ("strict-transport-security" in headers) == tls, (request[:80], headers)
    return headers, problem


def request(line, *headers, body=b""):
    return "\r\n".join([f"{line} HTTP/1.1", "Host: api.example.org", "Connection: close", *headers, "", ""]).encode() + body


def check_understanding(port, tls):
    """What is refused before there is an address to look up a location by, as far as the listener of that port goes."""
    is_problem("invalid_header", port, b"NONSENSE\r\n\r\n", tls)
    is_problem("invalid_header", port, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", tls)
    is_problem("invalid_header", port, b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", tls)
    is_problem("invalid_header", port, request("GET /../x"), tls)
    is_problem("invalid_header", port, request("GET /healthz", "Content-Length: many"), tls)
    is_problem("invalid_header", port, request("POST /healthz", "Transfer-Encoding: odd"), tls)
    is_problem("invalid_header", port, request("GET /healthz", "X-Long: " + "x" * 10_000), tls)
    is_problem("invalid_query", port, request("GET /healthz?" + "x" * 10_000), tls)
    headers, _ = is_problem("method_not_allowed", port, request("TRACE /healthz"), tls)
    assert "POST" in headers["allow"], headers


def check_places(port):
    too_large = f"Content-Length: {LARGEST_BODY + 1}"
    for path in ("/api/v1/jobs", "/api/v1/files", "/readyz", "/"):
        is_problem("body_too_large", port, request(f"POST {path}", too_large))
    is_problem("body_too_large", port, request("POST /api/v1/jobs", too_large, "Idempotency-Key: a"))
    # Of what is sent in pieces only the sum is too large.
    chunk = b"%x\r\n%s\r\n" % (16 << 20, b" " * (16 << 20))
    is_problem("body_too_large", port, request("POST /api/v1/jobs", "Transfer-Encoding: chunked", body=chunk * 7 + b"0\r\n\r\n"))
    for path in ("/.nginx/internal", "/.nginx/", "/.nginx/other"):
        is_problem("not_found", port, request(f"GET {path}"))
    is_problem("not_found", port, request("GET /metrics", "X-Comes-From: 203.0.113.7"))
    for path, code in (("/limited", "rate_limited"), ("/crowded", "overloaded")):
        exchange(port, request(f"GET {path}"))
        headers, _ = is_problem(code, port, request(f"GET {path}"))
        assert int(headers["retry-after"]) > 0, headers


def check_ids(port):
    """The caller's own request id where it is one, and never a broken document."""
    refused = "Content-Length: many"
    # Before the headers are read there is no name but ours.
    for given, is_kept in (("of-the:caller_1.2", True), ('"},{"', False), ("x" * 129, False)):
        _, problem = is_problem("not_found", port, request("GET /.nginx/", f"X-Request-Id: {given}"))
        assert (problem["request_id"] == given) == is_kept, problem
    is_problem("invalid_header", port, request("GET /", 'X-Request-Id: "', refused))


def check_own(port):
    """Refusals of the API, also with statuses that nginx has words for."""
    status, headers, body = exchange(port, request("GET /nothing/here"))
    assert (status, json.loads(body)["code"], "content-security-policy" in headers) == (404, "not_found", True), body
    status, _, body = exchange(port, request("GET /api/v1/jobs"))
    assert (status, json.loads(body)["code"]) == (401, "unauthenticated"), body
    # Larger than the API takes, and smaller than what nginx stops.
    status, _, body = exchange(port, request("POST /api/v1/auth/login", "Content-Type: application/json", f"Content-Length: {4 << 20}", body=b" " * (4 << 20)))
    assert (status, json.loads(body)["code"]) == (413, "body_too_large") and "any path" not in json.loads(body)["detail"], body


def main():
    port = int(sys.argv[1])
    if sys.argv[2] == "--away":
        for line in ("GET /healthz", "GET /readyz", "POST /api/v1/files", "GET /connection/websocket"):
            headers, _ = is_problem("overloaded", port, request(line))
            assert int(headers["retry-after"]) > 0, headers
        is_problem("overloaded", port, request("POST /api/v1/jobs", "Idempotency-Key: a"))
        return
    tls_port, plain_port = int(sys.argv[2]), int(sys.argv[3])
    check_understanding(port, False)
    check_understanding(tls_port, True)
    check_understanding(plain_port, False)
    is_problem("invalid_header", tls_port, request("GET /healthz"))
    is_problem("not_found", plain_port, request("GET /.well-known/acme-challenge/none"))
    check_places(port)
    check_ids(port)
    check_own(port)


if __name__ == "__main__":
    main()
