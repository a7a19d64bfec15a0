"What finished pages need to be easy to read: by eye, by keyboard, by ear, on paper."
import base64
import html
import io
import re
from pathlib import Path

from PIL import Image

MAIN = 'id="quarto-document-content"'
SKIP = '<a class="skip-link" href="#quarto-document-content">Skip to the text</a>'
LANDMARKS = {'class="navbar ': 'Site', 'class="quarto-secondary-nav"': 'Place in the book',
             'id="quarto-sidebar"': 'Chapters', 'id="TOC"': 'On this page',
             'class="page-navigation"': 'Previous and next page'}
SCROLLERS = """<script>(() => {
  const all = document.querySelectorAll(".sd-table, .cell-output-display:has(img, table)")
  const mark = () => all.forEach(box => {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0
    else box.removeAttribute("tabindex")
  })
  addEventListener("load", mark)
  addEventListener("resize", mark)
})()</script>"""


def by_line(code:str) -> str:
    "Highlighted code with an element for each line, so that a wrapped line has a hanging indent."
    lines, opened = [], []
    for line in code.split('\n'):
        before = ''.join(opened)
        for tag in re.findall(r'<span[^>]*>|</span>', line):
            if tag == '</span>': opened.pop()
            else: opened.append(tag)
        text = html.unescape(re.sub('<[^>]*>', '', line))
        indent = len(text) - len(text.lstrip())
        style = f' style="--in:{indent}ch"' if indent else ''
        line = re.sub('^ +', r'<span class="in">\g<0></span>', line)
        lines.append(f'<span class="line"{style}>{before}{line}{"</span>"*len(opened)}</span>')
    return '\n'.join(lines)


def drawn_size(picture:bytes) -> str:
    "The size of a picture as it was drawn at 100 dots an inch, as attributes; it may have more."
    image = Image.open(io.BytesIO(picture))
    dots, _ = image.info.get('dpi', (100, 100))
    width, height = (round(side*100/dots) for side in image.size)
    return f'width="{width}" height="{height}" style="--width:{width}px"'


def finish_page(text:str) -> str:
    "A finished page: lines, sizes of pictures, a link past the navigation, and named landmarks."
    text = re.sub(r'(<pre\b[^>]*>\s*<code[^>]*>)(.*?)(</code>)',
                  lambda m: m[1] + by_line(m[2].rstrip('\n')) + m[3], text, flags=re.S)
    text = re.sub(r'(?=src="data:image/(?:png|jpeg);base64,([^"]+))',
                  lambda m: drawn_size(base64.b64decode(m[1])) + ' ', text)
    text = text.replace('code-fold">\n<summary>Check', 'code-fold check">\n<summary>Check')
    text = re.sub('(<body[^>]*>)', rf'\1{SKIP}', text, count=1)
    text = text.replace(MAIN, f'{MAIN} tabindex="-1"', 1)
    text = re.sub('(<i class="bi[^>]*) role="img"', r'\1 aria-hidden="true"', text)
    for mark, name in LANDMARKS.items():
        text = text.replace(f'<nav {mark}', f'<nav aria-label="{name}" {mark}')
    text = re.sub(r'data-bs-target="(#quarto-sidebar-section-\d+)" role="navigation"',
                  r'data-bs-target="\1" href="\1" role="button"', text)
    text = text.replace('role="button" id="quarto-back-to-top"',
                        'role="button" href="#" id="quarto-back-to-top"')
    return text.replace('</body>', f'{SCROLLERS}</body>')


def finish(out:Path):
    "Finish all pages of a site."
    for page in out.rglob('*.html'): page.write_text(finish_page(page.read_text()))
