from __future__ import annotations

import pytest

from harness.core.errors import ProviderUnavailable, Refused
from harness.core.ids import InstanceId, OfferId
from harness.core.ports import CreateRequest, Endpoint, OfferQuery, Provider
from harness.providers.ssh_host import THE_BOX, SshHostProvider


@pytest.fixture
def provider() -> Provider:
    return SshHostProvider(Endpoint("gpu.example", 22), gpu_name="H100 SXM", num_gpus=8, disk_gb=500.0)


def test_the_box_is_shown_and_listed(provider: Provider) -> None:
    box = provider.instance(THE_BOX)
    assert box is not None
    assert box.endpoints == (Endpoint("gpu.example", 22),)
    assert provider.instances().instances == (box,)
    assert provider.instance(InstanceId(2)) is None
    assert provider.charges(THE_BOX) == ()
    assert provider.account().credit_usd == 0


def test_it_is_neither_rented_nor_stopped_nor_destroyed(provider: Provider) -> None:
    for act in (provider.destroy, provider.stop, provider.start):
        with pytest.raises(Refused, match="it is not rented"):
            act(THE_BOX)
    with pytest.raises(Refused):
        provider.search(OfferQuery(("H100",), 8, 150.0, 16.0))
    with pytest.raises(Refused):
        provider.create(OfferId(1), CreateRequest("i", 8.0, "l"))
    with pytest.raises(Refused):
        provider.attach_key(THE_BOX, "ssh-ed25519 AAAA")
    with pytest.raises(ProviderUnavailable):
        provider.container_log(THE_BOX)
