"""The page of the API's schema, in a real browser: whole, from this server alone, under a strict policy."""

from playwright.sync_api import expect

from tasks_app import services
from tasks_app.models import Pause
from tests.support.browser import OpenPage
from tests.support.stack import Stack


def test_the_page_shows_every_endpoint_and_asks_nobody_else(
    stack: Stack, transactional_db: None, open_page: OpenPage
) -> None:
    schema = stack.api.get("/schema").json()
    watched = open_page(str(stack.api.base_url))
    answer = watched.page.goto("/docs/")
    assert answer is not None
    assert "unsafe" not in answer.headers["content-security-policy"]
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    expect(watched.page.locator(".opblock")).to_have_count(len(operations))
    watched.page.locator("#operations-tasks-submitTask .opblock-summary-control").click()
    expect(watched.page.locator("#operations-tasks-submitTask")).to_contain_text("The new task")
    assert any(url.endswith("swagger-ui-bundle.js") for url in watched.requested)
    watched.assert_clean()


def test_a_task_is_queued_from_the_page(stack: Stack, transactional_db: None, open_page: OpenPage) -> None:
    services.pause_claims(Pause.Scope.QUEUE)  # nobody has to draw it
    page = open_page(str(stack.api.base_url)).page
    page.goto("/docs/")
    operation = page.locator("#operations-tasks-submitTask")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    operation.locator(".execute").click()
    expect(operation.locator(".live-responses-table tbody .response-col_status")).to_contain_text("201")
    (task,) = stack.api.get("/task").json()["results"]
    assert task["params"]["prompt"] == "a red house"
