"""Names of one GPU: a market's (``H100 SXM``), a person's (``H100_SXM``), the driver's (``NVIDIA H100 80GB HBM3``)."""

from __future__ import annotations

import re

_FORMS = ("SXM", "PCIE", "NVL")
"""Forms of a data-centre GPU; the driver's name of an SXM board often does not say so."""


def same_model(asked: str, shown: str) -> bool:
    """True when a name that was asked for or offered and the driver's are of one GPU.

    The model is the first word with a digit, a whole word of the other: neither an L40S nor a
    GH200 passes for an L40 or an H200, nor one RTX for another. What both say of the form must agree.
    """
    wanted, found = _words(asked), _words(shown)
    model = next((word for word in wanted if any(letter.isdigit() for letter in word)), None)
    forms = [{form for form in _FORMS for word in words if word.startswith(form)} for words in (wanted, found)]
    return model is not None and model in found and (forms[0] == forms[1] or not all(forms))


def _words(name: str) -> list[str]:
    apart = re.sub(r"(?<=[0-9])(?=[A-Z][a-z])", " ", name)  # the market writes "RTX 6000Ada"
    return re.findall(r"[A-Z0-9]+", apart.upper())
