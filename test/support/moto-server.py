"""Runs moto's server (python3 -m moto.server). Its CloudFormation imports every other service, and some of those packages that Debian 12 doesn't have:
what is missing is put in their place and does nothing. bake's tests use none of those services. Debian 13's moto, 5.1.1, also writes a few answers that AWS's SDK
for JavaScript can't read; below they are as AWS writes them."""
import importlib.util
import sys
import types

# API Gateway and Cognito.
OPTIONAL = ["openapi_spec_validator", "openapi_spec_validator.validation.exceptions", "joserfc", "joserfc.jwk", "joserfc.jwt"]


def stand_in(name):
    module = types.ModuleType(name)
    module.__path__ = []
    module.__getattr__ = lambda attribute: type(attribute, (Exception,), {})
    return module


absent = {name.split(".")[0] for name in OPTIONAL if importlib.util.find_spec(name.split(".")[0]) is None}
for name in OPTIONAL:
    parts = name.split(".")
    if parts[0] in absent:
        for end in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:end]), stand_in(".".join(parts[:end])))

import moto.server  # noqa: E402
from moto.ecr.models import ECRBackend  # noqa: E402
from moto.sqs.responses import SQSResponse  # noqa: E402


def numeric_dates(method):
    """moto 5.1.1 dates a lifecycle policy in words, where the protocol has a number and the JavaScript SDK takes nothing else."""

    def wrapped(*args, **kwargs):
        answer = method(*args, **kwargs)
        if isinstance(answer, dict) and isinstance(answer.get("lastEvaluatedAt"), str):
            answer["lastEvaluatedAt"] = 0
        return answer

    return wrapped


for name in ["get_lifecycle_policy", "delete_lifecycle_policy"]:
    setattr(ECRBackend, name, numeric_dates(getattr(ECRBackend, name)))


def system_attributes(get_param):
    """moto 5.1.1 knows of ReceiveMessage's attributes only under their older name."""

    def wrapped(self, name, *default):
        newer = get_param(self, "MessageSystemAttributeNames", []) if name == "AttributeNames" else []
        return newer or get_param(self, name, *default)

    return wrapped


def zoned(make):
    """moto 5.1.1 leaves the time zone out of an auto-scaling group's date."""

    def wrapped(self, *args, **kwargs):
        make(self, *args, **kwargs)
        if isinstance(self.created_time, str) and not self.created_time.endswith("Z") and "+" not in self.created_time:
            self.created_time += "Z"

    return wrapped


def serving(create_backend_app, patched=set()):
    """Importing auto-scaling takes as long as all the rest: only for who needs it."""

    def wrapped(service):
        if service in ("autoscaling", "cloudformation") and not patched:
            from moto.autoscaling.models import FakeAutoScalingGroup

            patched.add(service)
            FakeAutoScalingGroup.__init__ = zoned(FakeAutoScalingGroup.__init__)
        return create_backend_app(service)

    return wrapped


moto.server.create_backend_app = serving(moto.server.create_backend_app)
SQSResponse._get_param = system_attributes(SQSResponse._get_param)

moto.server.main(sys.argv[1:])
