"""The page at `/`: its addresses, templates, stylesheet and scripts, and the headers that keep it safe.

It shows what the API answers and does nothing else: `drawn` asks the functions behind the API's routes, and scripts ask
the same routes as every client.
"""
