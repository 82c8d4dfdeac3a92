#!/usr/bin/env python3
"""A program in another language that shares a store with threadkey, written from docs/protocol.md alone.

    peer.py STORE TENANT CLOCK_OFFSET

Prints an access token for TENANT that lives for at least a minute, and refreshes it first if necessary. CLOCK_OFFSET is
added to the machine's clock, in seconds. Exit code 5: try again later.
"""

import base64
import fcntl
import hashlib
import http.client
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

MIN_TTL = 60
MAX_BODY = 256 * 1024
RESERVED = 353_880
UNKNOWN_EXPIRY = 253402300799  # the provider names no end
A_YEAR = 365 * 86400
STORE = os.path.realpath(sys.argv[1])
TENANT = sys.argv[2]
OFFSET = int(sys.argv[3])


def now():
    return int(time.time()) + OFFSET


def try_later(reason):
    print(f"peer: {reason}", file=sys.stderr)
    sys.exit(5)


def fingerprint(secret):
    return hashlib.sha256(secret.encode()).hexdigest()[:24]


def same_fingerprint(one, other):
    return one.startswith(other) or other.startswith(one)


def fsync_folder(path):
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- locks ---


def tenant_file():
    keep = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
    name = "".join(c if c in keep else "".join(f"%{b:02X}" for b in c.encode()) for c in TENANT)
    folder = STORE + ".refresh"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, name + ".lock")


def try_flock(descriptor, mode):
    try:
        fcntl.flock(descriptor, mode)
        return True
    except BlockingIOError:
        return False


class Lock:
    """A flock on a file beside the store; taken again if the store or the lock file was moved in between."""

    def __init__(self, path, wait):
        self.held = False
        while not self.held:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if wait:
                fcntl.flock(self.file, fcntl.LOCK_EX)
            elif not self.try_exclusive():
                os.close(self.file)
                return
            there, mine = os.stat(path), os.fstat(self.file)
            self.held = (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
            self.held = self.held and os.path.realpath(sys.argv[1]) == STORE
            if not self.held:
                os.close(self.file)

    def try_exclusive(self):
        while not try_flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            # Other waiters hold the lock in shared mode for a moment; a refreshing process holds it in exclusive mode.
            if not try_flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB):
                return False
            fcntl.flock(self.file, fcntl.LOCK_UN)
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.held:
            fcntl.flock(self.file, fcntl.LOCK_UN)
            os.close(self.file)


def wait_until_free(path):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


# --- the store ---


def unique_members(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a member twice")
    return members


def read_store():
    with open(STORE, "rb") as file:
        document = json.loads(file.read().decode("utf-8"), object_pairs_hook=unique_members)
    if document["version"] != 1:
        try_later("the store is of another version")
    session = document["sessions"].get(TENANT)
    if session is None:
        print(f"peer: there is no session for {TENANT}", file=sys.stderr)
        sys.exit(3)
    return document, session


def usable(session):
    rejected = session.get("rejected", {}).get("fingerprint")
    refused = rejected and same_fingerprint(rejected, fingerprint(session["access_token"]))
    return now() < session["expires_at"] and not refused


def fresh(session):
    lifetime = session["expires_at"] - session["issued_at"]
    return usable(session) and session["expires_at"] - now() >= min(MIN_TTL, lifetime / 2)


def write_store(document):
    """Replaces the store. The caller holds the global lock."""
    if os.stat(STORE).st_nlink != 1:
        try_later("the store has more than one hard link")
    for section, since in (("pending", "created_at"), ("candidates", "issued_at")):
        for tenant, entry in list(document.get(section, {}).items()):
            if entry[since] <= 0 or not now() - 1500 < entry[since] <= now() + 900:
                del document[section][tenant]
    folder = os.path.dirname(STORE)
    temp = os.path.join(folder, f".{os.path.basename(STORE)}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(document).encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(temp, STORE)
    except OSError:
        os.unlink(temp)
        raise
    fsync_folder(folder)


# --- the journal ---


def line(entry):
    text = json.dumps(entry, separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest()[:24].encode() + b" " + text + b"\n"


def is_whole(line):
    digest, _, text = line.partition(b" ")
    return hashlib.sha256(text).hexdigest()[:24].encode() == digest


def has_entry(file):
    """Whether the journal has an intent, or a whole line after a torn intent: that line may be the only copy of a new token."""
    *lines, _ = os.pread(file, 1_000_000, 0).split(b"\n")
    return any(is_whole(line) for line in lines)


def write_all(file, content, offset):
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written


# --- refreshing ---


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def send(session):
    form = {
        "grant_type": "refresh_token",
        "refresh_token": session["refresh_token"],
        "client_id": session["client_id"],
    }
    if "resource" in session:
        form["resource"] = session["resource"]
    request = urllib.request.Request(session["token_endpoint"], urllib.parse.urlencode(form).encode())
    request.add_header("Accept", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects)
    try:
        answer = opener.open(request, timeout=180)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        try:
            body, cut = answer.read(MAX_BODY), bool(answer.read(1))
        except http.client.IncompleteRead as partial:
            body, cut = partial.partial[:MAX_BODY], True
        return answer.status, answer.headers, body, cut


def answer_entry(status, headers, body, cut):
    """Version 2 of an answer. A member that carries nothing is absent."""
    entry = {"version": 2, "status": status}
    for name, header in (
        ("retry_after", "Retry-After"),
        ("content_type", "Content-Type"),
        ("content_encoding", "Content-Encoding"),
    ):
        if headers.get(header) is not None:
            entry[name] = headers[header][: 128 if name == "retry_after" else 256]
    if cut:
        entry["cut"] = True
    return entry | {"body": base64.b64encode(body).decode(), "at": now()}


def members(body):
    """Returns the members of an answer. A null or empty member, or one of another type, counts as absent."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return {}
    if answer.get("error") not in (None, False, "") or answer.get("ok") is False:
        return {}
    texts = ("access_token", "refresh_token", "token_type", "scope")
    found = {name: answer[name] for name in texts if isinstance(answer.get(name), str) and answer[name].strip()}
    try:
        expires_in = int(answer.get("expires_in"))
    except (TypeError, ValueError, OverflowError):
        expires_in = 0
    return found | ({"expires_in": min(expires_in, A_YEAR)} if expires_in > 0 else {})


def refresh(lock, session):
    """Refreshes the session with the tenant's lock held. Returns the new access token."""
    intent = line(
        {
            "version": 1,
            "kind": "refresh",
            "lineage": session["lineage"],
            "generation": session["generation"],
            "fingerprint": fingerprint(session["refresh_token"]),
            "at": now(),
            "token_endpoint": session["token_endpoint"],
        }
    )
    write_all(lock.file, intent, 0)
    os.ftruncate(lock.file, len(intent))
    os.posix_fallocate(lock.file, len(intent), RESERVED)
    os.fsync(lock.file)
    fsync_folder(STORE + ".refresh")
    fsync_folder(os.path.dirname(STORE))

    status, headers, body, cut = send(session)
    write_all(lock.file, line(answer_entry(status, headers, body, cut)), len(intent))
    os.fsync(lock.file)

    answer = members(body)
    if cut or status != 200 or "access_token" not in answer:
        try_later(f"the provider answered {status}; run threadkey token, which reads the journal")
    with Lock(STORE + ".global.lock", wait=True):
        document, stored = read_store()
        for name in ("lineage", "generation", "refresh_token"):
            if stored[name] != session[name]:
                try_later("the session was replaced during the refresh")
        stored["access_token"] = answer["access_token"]
        stored["refresh_token"] = answer.get("refresh_token", stored["refresh_token"])
        stored["token_type"] = "DPoP" if answer.get("token_type", "").lower() == "dpop" else "Bearer"
        if "scope" in answer:
            stored["scope"] = answer["scope"]
        stored["issued_at"] = now()
        expires_in = answer.get("expires_in")
        stored["expires_at"] = stored["issued_at"] + expires_in if expires_in else UNKNOWN_EXPIRY
        stored["generation"] += 1
        stored.pop("retry", None)
        stored.pop("ended", None)
        write_store(document)
    fsync_folder(os.path.dirname(STORE))
    os.ftruncate(lock.file, 0)
    os.fsync(lock.file)
    return stored["access_token"]


def has_ended(session):
    verdict = session.get("ended", {}).get("fingerprint")
    return verdict and same_fingerprint(verdict, fingerprint(session["refresh_token"]))


def held_back(session):
    retry = session.get("retry")
    return retry and retry["set_at"] <= now() < min(retry["not_before"], retry["set_at"] + 3600)


def token():
    path = tenant_file()
    while True:
        _, session = read_store()
        if fresh(session):
            return session["access_token"]
        with Lock(path, wait=False) as lock:
            if lock.held:
                if has_entry(lock.file):
                    try_later("a process died in mid-refresh: run threadkey token")
                _, session = read_store()
                if fresh(session):
                    return session["access_token"]
                if "refresh_token" not in session or has_ended(session) or held_back(session):
                    try_later("no request can be sent now")
                if session.get("retry", {}).get("code", "").startswith("ambiguous_") and usable(session):
                    return session["access_token"]
                return refresh(lock, session)
        wait_until_free(path)


print(token())
