"""What the tests of the whole product share."""

from tests.providers.conftest import local_model

__all__ = ["local_model"]
