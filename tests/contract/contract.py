"""Starts the service in staging, lets schemathesis ask it, and counts by the service's own metrics."""

import base64
import collections
import hmac
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/contract"
SCHEMATHESIS = ROOT / "target/contract/venv/bin/schemathesis"
BINARY = ROOT / "target/debug/orchestrator"
SERIES = re.compile(r'^orchestrator_http_requests_total\{(.*)\} (\d+)$', re.M)
LABEL = re.compile(r'(\w+)="([^"]*)"')


def environment(secret):
    """Nothing of ours but what this run needs; who guesses wrong keys often is not held up."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATION_")}
    return own | {
        "ORCHESTRATION_ENV": "staging",
        "ORCHESTRATION_BOOTSTRAP_KEY": f"orch_{os.urandom(6).hex()}_{os.urandom(16).hex()}",
        "ORCHESTRATION_JWT_SECRET_KEY": secret,
        "ORCHESTRATION_KEY_PEPPER": os.urandom(32).hex(),
        "ORCHESTRATION_SERVER__LISTEN": "127.0.0.1:0",
        "ORCHESTRATION_SECURITY__AUTH_FAILURES_PER_MINUTE": "100000",
        "ORCHESTRATION_SECURITY__WAF": "monitor",
    }


def signed(secret):
    """A token of an administrator: unlike a key, no request of the run can revoke it."""
    claims = {"iss": "orchestrator", "aud": "orchestrator", "sub": "contract",
              "exp": int(time.time()) + 24 * 3600, "roles": ["super_admin"]}
    part = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")
    message = b".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256"}, claims))
    return (message + b"." + part(hmac.digest(secret.encode(), message, "sha256"))).decode()


def listens(service):
    """The address, once it is there; what follows is read and forgotten."""
    for line in service.stdout:
        told = json.loads(line)
        if told.get("message") == "Listening":
            threading.Thread(target=lambda: collections.deque(service.stdout, 0), daemon=True).start()
            return told["address"]
    raise SystemExit("the service ended before it listened")


def answered(address, token):
    """Requests answered, by status."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as reply:
        text = reply.read().decode()
    counts = collections.Counter()
    for labels, count in SERIES.findall(text):
        counts[dict(LABEL.findall(labels))["code"]] += int(count)
    return counts


def main(requests="2000", *more):
    secret = os.urandom(32).hex()
    token = signed(secret)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        service = subprocess.Popen(
            [BINARY, "serve"], cwd=home, env=environment(secret), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            address = listens(service)
            asked = subprocess.run(
                [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run",
                 f"http://{address}/openapi.json", "--max-examples", str(int(requests) // 50), *more],
                cwd=home, env=os.environ | {"CONTRACT_TOKEN": token})
            counts = answered(address, token)
        finally:
            service.terminate()
            service.wait()
    total, broken = counts.total(), sum(n for code, n in counts.items() if code.startswith("5"))
    shown = " ".join(f"{code}:{n}" for code, n in sorted(counts.items()))
    print(f"contract: {total} requests in {time.monotonic() - start:.0f} s, {broken} of them 5xx ({shown})")
    few = total < int(requests)
    if few:
        print(f"contract: fewer than {requests}", file=sys.stderr)
    return 1 if asked.returncode or broken or few else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
