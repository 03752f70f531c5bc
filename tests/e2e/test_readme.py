"""README's quick start: each `print` of its Python blocks prints what stands behind it."""

import contextlib
import io
import re

from conftest import ROOT


def test_quick_start(server):
    text = (ROOT / "README.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    expected = re.findall(r"^ *print\(.*\) +# (.*)$", code, re.MULTILINE)
    assert len(expected) == code.count("print("), "each print has its output behind it"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("6379", str(server.port)), {})  # noqa: S102: our own page
    assert printed.getvalue().splitlines() == expected
