"""The same client for asyncio:

    async with await ringbroker.aio.connect() as client, await client.open("digits", slots=64) as model:
        async with model.acquire(rows=1) as lease:
            lease.inputs["image"][:] = image                    # numpy view of shared memory, [rows, *sample]
            logits = (await lease.infer(timeout=0.1))["logits"]   # numpy view of shared memory, valid until release
        logits = await model(image[np.newaxis])                 # the same in one call, with copies

Everything is as in `ringbroker`, its errors too, but belongs to one event loop and its thread. Where a task is
cancelled in `infer`, the broker is asked to drop the request.
"""

from ringbroker.aio.client import Client, connect
from ringbroker.aio.lease import Lease
from ringbroker.aio.model import Model
from ringbroker.result import Result

__all__ = ["Client", "Lease", "Model", "Result", "connect"]
