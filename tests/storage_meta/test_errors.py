"""What callers branch on: a code and a status for each class of error, however it is made."""

from __future__ import annotations

import inspect
import re

import pytest

from storage_meta import errors
from storage_meta.errors import StorageError

STATUS = {
    400: "KeyTooLong InvalidTag InvalidArgument InvalidMetadata MetadataTooLarge TenantRequired",
    403: "AccessDenied ObjectLocked",
    404: "NoSuchBucket NoSuchKey NoSuchVersion NoSuchEvent",
    405: "MethodNotAllowed",
    409: "NoBlob BucketNotEmpty",
    412: "PreconditionFailed",
    416: "InvalidRange",
    500: "BlobMissing ChecksumMismatch",
    503: "StorageUnavailable",
    507: "QuotaExceeded",
}
STATUS_OF = {name: status for status, names in STATUS.items() for name in names.split()}


@pytest.mark.parametrize(("name", "status"), STATUS_OF.items())
def test_an_error_has_the_code_of_its_name_and_its_status(name, status):
    error = getattr(errors, name)(message="It is so. Do this.")

    assert isinstance(error, StorageError)
    assert (error.code, error.http_status) == (re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), status)
    assert (error.message, str(error)) == ("It is so. Do this.",) * 2


def test_these_are_all_errors_there_are():
    found = {name for name, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, StorageError)}

    assert found - {"StorageError"} == set(STATUS_OF)
