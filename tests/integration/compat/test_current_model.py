"""The model that a key goes on with."""

import pytest
from django.contrib.auth.models import User

from tasks_app.access import api_keys, permissions
from tasks_app.api.compat import current_model
from tasks_app.contracts import Principal
from tasks_app.models import ApiKey, Scope, SelectedCheckpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> ApiKey:
    return api_keys.create_api_key(user=User.objects.create(username="owner"), name="a client", scopes=[Scope.SUBMIT])[
        0
    ]


def test_who_chose_nothing_has_none() -> None:
    assert current_model.get_selected_checkpoint(permissions.ANONYMOUS) is None


def test_a_choice_is_one_key_s_and_the_last_counts(key: ApiKey) -> None:
    mine = Principal(scopes=frozenset(), key_id=key.pk)
    current_model.select_checkpoint(permissions.ANONYMOUS, "demo")
    assert current_model.get_selected_checkpoint(mine) is None
    for name in ("first", "second"):
        current_model.select_checkpoint(mine, name)
    assert (
        current_model.get_selected_checkpoint(mine),
        current_model.get_selected_checkpoint(permissions.ANONYMOUS),
    ) == ("second", "demo")
    assert SelectedCheckpoint.objects.count() == 2


def test_a_choice_goes_with_its_key(key: ApiKey) -> None:
    current_model.select_checkpoint(Principal(scopes=frozenset(), key_id=key.pk), "demo")
    key.delete()
    assert not SelectedCheckpoint.objects.exists()
