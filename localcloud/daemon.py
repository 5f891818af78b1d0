# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The one process of a running local cloud: the AWS API and what keeps the parts in step with it."""

from __future__ import annotations

import logging
import os
import signal
import threading

from .api import Api
from .config import Config
from .errors import LocalCloudError
from .parts.reconcile import Reconciler
from .parts.shell import Process

LOG = logging.getLogger(__name__)


def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Parts go on without the daemon; the next one finds them."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Process(config.pid_file).remember(os.getpid())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    api = Api(config)
    reconciler = Reconciler(config, api)
    try:
        reconciler.network.start()
        api.start()
        reconciler.names.start()
    except BaseException as error:
        if not isinstance(error, LocalCloudError):
            LOG.exception("the local cloud could not start")
        else:
            LOG.error("%s", error)
        # The API's threads would keep this process alive without a cloud.
        logging.shutdown()
        os._exit(1)
    loop = threading.Thread(target=reconciler.run, name="reconciler")
    loop.start()
    config.ready_file.touch()
    LOG.info("the local cloud %s answers at %s", config.name, config.api_url)
    stop.wait()
    config.ready_file.unlink(missing_ok=True)
    reconciler.stop()
    loop.join()
    reconciler.names.process.stop()
    api.stop()
