"""A page of another origin, in the browser of somebody whose web UI runs: it launches no run.

The same page launches runs where the guard is taken away, so that the attacks are seen to be ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import sync_playwright

from wmtp_assets_tests.browser.ui import ARGUMENTS, CHROMIUM
from wmtp_assets_tests.components.test_runs import INSTANCES, LAUNCH, eventually, query
from wmtp_assets_tests.loopback import Handler, listen
from wmtp_assets_tests.pages import Copy
from wmtp_assets_tests.trees import link_tree
from wmtp_assets_tests.webserver import serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

MUTATION = " ".join(LAUNCH.split())
BODY = json.dumps({"query": MUTATION})
SIMPLE = "text/plain; application/json"
"""A type that a page may send without asking, and that Dagster takes for JSON."""

ATTACKS = {
    "image": "new Image().src = url + '/graphql?query=' + encodeURIComponent(mutation)",
    "script": "const it = document.createElement('script');"
    "it.src = url + '/graphql?query=' + encodeURIComponent(mutation); document.body.append(it)",
    "frame": "const it = document.createElement('iframe');"
    "it.src = url + '/graphql?query=' + encodeURIComponent(mutation); document.body.append(it)",
    "fetch by GET": "fetch(url + '/graphql?query=' + encodeURIComponent(mutation),"
    "{mode: 'no-cors', headers: {Accept: '*/*'}}).catch(() => 0)",
    "fetch as text": f"fetch(url + '/graphql', {{method: 'POST', mode: 'no-cors', body,"
    f"headers: {{'Content-Type': '{SIMPLE}'}}}}).catch(() => 0)",
    "fetch with the query in the address": "fetch(url + '/graphql?query=' + "
    "encodeURIComponent(mutation), {method: 'POST', mode: 'no-cors'}).catch(() => 0)",
    "beacon": "navigator.sendBeacon(url + '/graphql?query=' + encodeURIComponent(mutation), '')",
    "fetch as JSON": "fetch(url + '/graphql', {method: 'POST', body,"
    "headers: {'Content-Type': 'application/json'}}).catch(() => 0)",
    "form": "const it = document.createElement('form'); it.method = 'POST'; it.target = 'there';"
    "it.action = url + '/graphql?query=' + encodeURIComponent(mutation); it.enctype = 'text/plain';"
    "document.body.append(it); it.submit()",
    "websocket": "const it = new WebSocket(url.replace('http', 'ws') + '/graphql', 'graphql-ws');"
    "it.onopen = () => { it.send(JSON.stringify({type: 'connection_init'}));"
    "it.send(JSON.stringify({id: '1', type: 'start', payload: {query: mutation}})) };"
    "window.socket = new Promise(done => { it.onmessage = () => done('open');"
    "it.onclose = () => done('closed') })",
}
"""What a page tries, in JavaScript."""

WITHOUT_GUARD = {"image", "script", "fetch by GET", "fetch as text", "beacon", "form"} | {
    "fetch with the query in the address"
}
"""What launches a run where there is no guard; a frame is shown GraphiQL."""


class _Page(Handler, BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>elsewhere</title><iframe name=there></iframe>"
        self.send_head(200, {"Content-Type": "text/html", "Content-Length": str(len(body))})
        self.wfile.write(body)


GUARDED = {"guarded": True, "as Dagster is": False}


@pytest.fixture(scope="module")
def servers(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URL of the web UI of a project, with the guard and without; both start at once. There is no
    daemon: what is launched is queued, and no more."""
    folder = tmp_path_factory.mktemp("origin")
    with ExitStack() as stack, ThreadPoolExecutor() as pool:

        def start(name: str) -> str:
            link_tree(good_root, folder / name)
            copy = Copy.make(folder / f"project-{name}".replace(" ", "-"), folder / name)
            for file in () if GUARDED[name] else INSTANCES:
                path = copy.folder / file
                path.write_text(re.sub(r"(?m)^instance_class:.*\n(  .*\n)+", "", path.read_text()))
            command = "source activate.sh && exec dagster-webserver -w workspace.yaml"
            return stack.enter_context(serving(command, copy.folder, copy.environment()))

        yield dict(zip(GUARDED, pool.map(start, GUARDED), strict=True))


@pytest.fixture(params=GUARDED)
def server(request: pytest.FixtureRequest, servers: dict[str, str]) -> tuple[str, bool]:
    """One of them, and whether it is guarded."""
    return servers[request.param], GUARDED[request.param]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; a name of the attacker leads to this machine."""
    rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, rules])
        yield browser
        browser.close()


def runs(url: str) -> int:
    """How many runs there are."""
    found = query(url, "{ runsOrError { ... on Runs { results { id } } } }")
    return len(found["runsOrError"]["results"])


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_page_of_another_port(server: tuple[str, bool], browser: Any, name: str) -> None:
    """Another port is another origin, also on this machine: a notebook, somebody's local server."""
    url, is_guarded = server
    harmless = [attack for attack in ATTACKS if is_guarded or attack not in WITHOUT_GUARD]
    with listen(_Page) as elsewhere:

        def attacked(attack: str) -> Any:
            page = browser.new_page()
            page.goto(f"http://{name}:{urlsplit(elsewhere).port}/")
            page.evaluate(
                "([url, mutation, body]) => { " + ATTACKS[attack] + " }", [url, MUTATION, BODY]
            )
            if attack == "websocket":
                said = page.evaluate("window.socket")
                assert said == ("closed" if is_guarded else "open")
            return page

        before = runs(url)
        pages = [attacked(attack) for attack in harmless]
        pages[-1].wait_for_timeout(1500)
        assert runs(url) == before, harmless
        for attack in ATTACKS.keys() - harmless:
            before = runs(url)
            pages.append(attacked(attack))
            eventually(lambda before=before: runs(url) > before)
        for page in pages:
            page.close()


def test_name_that_is_led_to_this_machine(server: tuple[str, bool], browser: Any) -> None:
    """DNS rebinding: to the browser, page and web UI then have one origin."""
    url, is_guarded = server
    before = runs(url)
    page = browser.new_page()
    answer = page.goto(f"http://rebound.example:{urlsplit(url).port}/server_info")
    assert answer.status == (403 if is_guarded else 200)
    status = page.evaluate(
        "body => fetch('/graphql', {method: 'POST', body,"
        "headers: {'Content-Type': 'application/json'}}).then(it => it.status)",
        BODY,
    )
    assert (status, runs(url) - before) == ((403, 0) if is_guarded else (200, 1))
    page.close()


def test_web_ui_itself(server: tuple[str, bool], browser: Any) -> None:
    """Its own page launches runs by POST, by GET never, and gets what websockets say."""
    url, is_guarded = server
    before = runs(url)
    page = browser.new_page()
    page.goto(f"{url}/server_info")
    status = page.evaluate(
        "body => fetch('/graphql', {method: 'POST', body,"
        "headers: {'Content-Type': 'application/json'}}).then(it => it.status)",
        BODY,
    )
    assert (status, runs(url)) == (200, before + 1)
    page.evaluate("([url, mutation]) => { " + ATTACKS["websocket"] + " }", [url, MUTATION])
    assert page.evaluate("window.socket") == "open"
    if is_guarded:
        by_get = "path => fetch(path, {headers: {Accept: '*/*'}}).then(it => it.status)"
        assert page.evaluate(by_get, f"/graphql?query={quote(MUTATION)}") == 405
        assert page.evaluate(by_get, f"/graphql?query={quote('{ version }')}") == 200
    assert runs(url) == before + 1
    page.close()


def test_link_is_followed(server: tuple[str, bool], browser: Any) -> None:
    """From a chat or a document to a page of the UI."""
    url, _ = server
    with listen(_Page) as elsewhere:
        page = browser.new_page()
        page.goto(elsewhere)
        page.evaluate(
            "url => { const it = document.createElement('a'); it.href = url;"
            "document.body.append(it); it.click() }",
            f"{url}/assets/micro_mtp",
        )
        page.wait_for_url(f"{url}/assets/micro_mtp**")
        page.get_by_text("micro_mtp").first.wait_for(timeout=60_000)
        page.close()
