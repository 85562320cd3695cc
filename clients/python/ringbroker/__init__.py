"""ringbroker: run models that a broker on this machine serves, through shared memory, without copies.

    with ringbroker.connect() as client, client.open("digits", slots=64) as model:
        with model.acquire(rows=1) as lease:
            lease.inputs["image"][:] = image              # numpy view of shared memory, [rows, *sample]
            logits = lease.infer(timeout=0.1)["logits"]   # numpy view of shared memory, valid until release
        logits = model(image[np.newaxis])                 # the same in one call, with copies

`Client` and `Model` may be shared by any number of threads; a `Lease` is one thread's. Connect after a fork, not
before it.

Everything that goes wrong is an `Error` with a stable `code`, a `text` for people, the `path` of the offending field or
None, and `is_retryable`. The classes:

    Error                       (a ringbuf.errors.RingbrokerError)
      ProtocolError             1xxx  the broker refused what was sent; the session ended
      RingError                 2xxx
        TooManyRows             more rows than max_rows
        AttachFailed            the segment could not be mapped
        LeaseReleased           used or released after its release
        LeaseBusy               its last request is still in flight
      ModelError                3xxx
        UnknownModel
        UnknownVersion
        WrongPool             the model was moved to another pool just now
      CapacityError             4xxx
        Timeout                 also a TimeoutError: the call's own time was up
          DeadlineExceeded      the broker's word for it
          AcquireTimeout        no free rows in time
        Cancelled
        ShmFull
      ExecutionError            5xxx
        ModelFailed             the model raised
        OutputTooLarge          an output did not fit into its plane: `needed_bytes`
        ExecutionTimeout        the model ran for too long, and its worker was ended
      LifecycleError            6xxx
        BrokerLost              also a ConnectionError; retryable, the next call connects again
        ClientClosed
        NotSupported
        BadAnswer               the broker broke the protocol; the connection was closed
        ResumeRefused           seen by no caller: the client connects anew
        SignatureChanged        the lease's model has another signature now; acquire a new lease
        PeerRefused             the broker does not serve this process's user
"""

from ringbroker.client import Client, connect
from ringbroker.errors import (
    AcquireTimeout,
    AttachFailed,
    BadAnswer,
    BrokerLost,
    Cancelled,
    CapacityError,
    ClientClosed,
    DeadlineExceeded,
    Error,
    ExecutionError,
    ExecutionTimeout,
    LeaseBusy,
    LeaseReleased,
    LifecycleError,
    ModelError,
    ModelFailed,
    NotSupported,
    OutputTooLarge,
    PeerRefused,
    ProtocolError,
    ResumeRefused,
    RingError,
    ShmFull,
    SignatureChanged,
    Timeout,
    TooManyRows,
    UnknownModel,
    UnknownVersion,
    WrongPool,
)
from ringbroker.lease import Lease
from ringbroker.model import Model
from ringbroker.result import Result
from ringbuf.errors import Code

__all__ = [
    "AcquireTimeout",
    "AttachFailed",
    "BadAnswer",
    "BrokerLost",
    "Cancelled",
    "CapacityError",
    "Client",
    "ClientClosed",
    "Code",
    "DeadlineExceeded",
    "Error",
    "ExecutionError",
    "ExecutionTimeout",
    "Lease",
    "LeaseBusy",
    "LeaseReleased",
    "LifecycleError",
    "Model",
    "ModelError",
    "ModelFailed",
    "NotSupported",
    "OutputTooLarge",
    "PeerRefused",
    "ProtocolError",
    "Result",
    "ResumeRefused",
    "RingError",
    "ShmFull",
    "SignatureChanged",
    "Timeout",
    "TooManyRows",
    "UnknownModel",
    "UnknownVersion",
    "WrongPool",
    "connect",
]

for _public in (globals()[_name] for _name in __all__):
    if _public.__module__.startswith("ringbroker."):
        _public.__module__ = "ringbroker"  # a traceback then says what can be caught: ringbroker.UnknownModel
