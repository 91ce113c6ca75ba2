import pytest
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

from lightning_stiffness.plugin.routes import StiffnessPlugin


@pytest.fixture
def serve():
    """A log directory → a client that asks TensorBoard's own application with the plugin in it."""

    def start(logdir):
        return Client(TensorBoardWSGI([StiffnessPlugin(TBContext(logdir=str(logdir)))]))

    return start
