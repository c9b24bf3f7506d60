"""The page and the keys' pages in a browser, on a server that wants a key: people sign in instead.

Not among the tests of the page, whose worker would take the tasks.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, expect

from tasks_app.models import Task
from tests.support import stack as stacks
from tests.support.browser import (
    OpenPage,
    find_axe_violations,
)

pytestmark = [pytest.mark.timeout(240), pytest.mark.django_db(transaction=True)]
NAME, PASSWORD = "ops", "only for this test"


@pytest.fixture
def signed_in(
    transactional_db: None,
    tmp_path: Path,
    open_page: OpenPage,
) -> Iterator[Callable[[str], Page]]:
    """Return a function that opens a page for somebody who may do everything, by way of the login."""
    User.objects.create_superuser(NAME, password=PASSWORD)
    environment = stacks.build_environment(API_AUTH="required", DEFAULT_MODEL_ID="demo")
    with stacks.run_web(tmp_path, environment) as (api, _):

        def open_it(path: str) -> Page:
            page = open_page(str(api.base_url)).page
            page.goto(path)
            page.fill("[name=username]", NAME)
            page.fill("[name=password]", PASSWORD)
            page.press("[name=password]", "Enter")
            page.wait_for_url(lambda url: urlsplit(url).path == path)
            return page

        yield open_it


def test_somebody_who_signs_in_posts_watches_and_cancels(signed_in: Callable[[str], Page]) -> None:
    page = signed_in("/")
    page.wait_for_selector("#composer [type=submit]:enabled")
    page.fill("#prompt", "a red house")
    page.keyboard.press("Control+Enter")
    tile = page.locator("[data-working]")
    expect(tile.locator(".state")).to_contain_text("Next up")
    tile.get_by_role("button", name=re.compile("cancel", re.I)).click()
    expect(tile.locator(".state p")).to_contain_text("Canceled")
    assert Task.objects.get().status == "canceled"


def test_a_key_is_made_in_the_admin_and_works(signed_in: Callable[[str], Page]) -> None:
    page = signed_in("/admin/tasks_app/apikey/add/")
    page.fill("[name=name]", "my bot")
    page.evaluate(
        "id => document.querySelector('[name=user]').append(new Option('ops', id, true, true))",
        User.objects.get(username=NAME).pk,
    )
    assert not find_axe_violations(page)
    page.locator("[name=_save]").click()
    token = page.locator("#token").text_content()
    assert token is not None
    assert not find_axe_violations(page)
    server = Client(headers={"authorization": f"Bearer {token}"})
    assert server.get("/task").status_code == 200
    page.get_by_text("I've saved it").click()
    expect(page.locator("#result_list")).to_contain_text("my bot")
    expect(page.locator("body")).not_to_contain_text(token)
