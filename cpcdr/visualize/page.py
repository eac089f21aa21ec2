"""Pages of one HTML file that opens without a server."""

import base64
import html

import cv2

from cpcdr.visualize.pictures import Image

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1200px;color:#222}
table{border-collapse:collapse;margin:.6rem 0 1.6rem}td,th{padding:.25rem .7rem;text-align:left;
border-bottom:1px solid #ddd;vertical-align:top}th{font-weight:600}td.n{text-align:right;
font-variant-numeric:tabular-nums}.best{background:#e8f1e4}img{max-width:100%;border:1px solid #ddd}
.figures{display:flex;gap:1rem;flex-wrap:wrap}.figures figure{margin:0;flex:1 1 30%}
figure{margin:0}figcaption{color:#666}h2{margin-top:2rem}
"""


def picture(image: Image, caption: str) -> str:
    """A figure element that holds uint8 [H, W, 3] RGB as PNG."""
    png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
    )
