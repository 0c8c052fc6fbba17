"""What the server draws of a view, from the functions behind the API's answers, so that it can be read without scripts.

Scripts take over what is drawn, and keep it up to date. Addresses and sessions are in `page.views`. What is read here
raises a StintError where the API would refuse the same request.
"""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""What a template draws as a row, or as a list with its rows, by the names that it uses."""
