# SPDX-License-Identifier: Apache-2.0
"""The fenced blocks of docs/integrations/kubernetes.md, to be done as a reader does them."""
import re

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def section(path, heading):
    """(language, text) of each block below the heading."""
    with open(path) as f:
        text = f.read()
    start = text.index("\n## %s\n" % heading)
    end = text.find("\n## ", start + 1)
    return BLOCK.findall(text[start:end])


def commands(text):
    """Lines, with those that go on in the next one put together and without comments."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [re.sub(r"\s{2,}#.*", "", line) for line in joined.splitlines() if line.strip()]
