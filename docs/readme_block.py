"""Print the first python block of the README, which `make wheel` runs with an installed wheel."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"

if __name__ == "__main__":
    found = re.search(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    if found is None:
        raise SystemExit("README.md has no python block")
    print(found[1])
