"""The built site in headless Chromium: every page at some widths, the live page, live figures.

`python .ci/docs --out _site` builds it, then `pytest -m site` runs these; `.ci/run` does both.
`PIX2SEQ_SITE` names another folder, `PIX2SEQ_SCREENSHOTS` one that keeps pictures of live pages.
"""
import io
import os
import re
import subprocess
import sys
import threading
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from pix2seq.digits import DigitScenes
from pix2seq.model import Pix2Seq
from pix2seq.sampling import generate, sample_token, slot_mask
from pix2seq.tokenizer import BoxTokenizer

pytestmark = pytest.mark.site

ROOT = Path(__file__).parent.parent
SITE = Path(os.environ.get('PIX2SEQ_SITE', ROOT/'_site'))
WIDTHS = 1280, 390, 640                                     # 640: a page of 1280 at 200 % zoom
HEAVIEST = {'index.html': 1.5e6, 'live/index.html': 10e6}   # bytes, with all that a page loads


def page_names(): return sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob('*.html'))


class Quiet(SimpleHTTPRequestHandler):
    "A plain server: no compression, no special headers, and no lines about each request."
    def log_message(self, *args): pass


@pytest.fixture(scope='module')
def url():
    assert (SITE/'index.html').exists(), 'build the site first: python .ci/docs --out _site'
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


class Watched:
    "A page whose errors, and whose requests off the machine, are kept in `wrong`."
    def __init__(self, browser, url, width=WIDTHS[0], **options):
        context = browser.new_context(viewport=dict(width=width, height=900), **options)
        self.url, self.wrong, self.bytes, self.page = url, [], 0, context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on('console', self.heard)
        self.page.on('pageerror', lambda error: self.wrong.append(str(error)))
        self.page.on('request', self.asked)
        self.page.on('response', self.answered)

    def heard(self, message):
        if message.type in ('error', 'warning'): self.wrong.append(message.text)

    def asked(self, request):
        if not request.url.startswith((self.url, 'data:', 'blob:')):
            self.wrong.append(f'a request off the machine: {request.url}')

    def answered(self, response):
        self.bytes += int(response.headers.get('content-length', 0))

    def go(self, path):
        self.wrong.clear()
        self.bytes = 0
        self.page.goto(f'{self.url}/{path}', wait_until='load')
        return self.page

    def width(self): return self.page.evaluate('document.documentElement.scrollWidth')

    def keep_picture(self, name):
        if folder := os.environ.get('PIX2SEQ_SCREENSHOTS'):
            self.page.screenshot(path=Path(folder)/f'{name}.png', full_page=True)


CUT = """() => {
    for (const fold of document.querySelectorAll('main details')) fold.open = true
    return [...document.querySelectorAll('main pre, main pre code, #TOC a')]
        .filter(code => code.scrollWidth > code.clientWidth + 1).map(code => code.innerText)
}"""


def test_every_page_at_all_widths(browser, url):
    watched, wrong = Watched(browser, url), []
    for path in page_names():
        page = watched.go(path)
        if path in HEAVIEST: page.wait_for_load_state('networkidle')
        for width in WIDTHS:
            page.set_viewport_size(dict(width=width, height=900))
            if watched.width() > width: wrong.append(f'{path} is wider than {width} pixels')
            wrong += [f'{path}, {width} pixels: cut: {code[:60]}' for code in page.evaluate(CUT)]
        wrong += [f'{path}: {what}' for what in watched.wrong]
        if watched.bytes > HEAVIEST.get(path, 3e6): wrong.append(f'{path}: {watched.bytes} bytes')
        page.set_viewport_size(dict(width=WIDTHS[0], height=900))
    assert not wrong, '\n'.join(wrong)


AUDIT = """async whole => {
    if (!whole)                          // what is the same on every page is looked at once
        for (const part of document.querySelectorAll('main pre, #quarto-sidebar'))
            part.replaceChildren('…')
    const isDark = () => document.documentElement.classList.contains('quarto-dark')
    const found = []
    for (const rules of [null, ['color-contrast', 'link-in-text-block']]) {
        const before = isDark()
        if (rules) smalldocsToggleScheme()
        while (rules && isDark() === before) await new Promise(done => setTimeout(done, 20))
        const options = {resultTypes: ['violations'], preload: false, iframes: false}
        if (rules) options.runOnly = {type: 'rule', values: rules}
        for (const {id, impact, nodes} of (await axe.run(document, options)).violations)
            if (['serious', 'critical'].includes(impact))
                found.push(`${isDark() ? 'dark' : 'light'}, ${id}: ${nodes[0].html.slice(0, 120)}`)
    }
    return found
}"""
IN_FULL = 'boxes.html', 'live/index.html'


@pytest.fixture(scope='module')
def axe():
    "The text of axe-core, from npm."
    sys.path.insert(0, str(ROOT/'.ci'))
    from npm import unpacked
    try:
        with unpacked('axe-core@4.10.3') as folder: return (folder/'axe.min.js').read_text()
    except (OSError, subprocess.SubprocessError) as e: pytest.skip(f'no axe-core: {e}')
    finally: sys.path.pop(0)


def test_axe_finds_nothing_serious_in_light_and_dark(browser, url, axe):
    both, wrong = [Watched(browser, url, reduced_motion='reduce') for _ in range(2)], []
    names = page_names()
    for some in zip(names[::2], names[1::2] + [names[0]]*(len(names) % 2)):  # two at a time
        for watched, path in zip(both, some):
            page = watched.go(path)
            page.evaluate(axe)
            page.evaluate(f'whole => {{ window.audit = ({AUDIT})(whole) }}', path in IN_FULL)
        for watched, path in zip(both, some):
            wrong += [f'{path}, {what}' for what in watched.page.evaluate('audit')]
    assert not wrong, '\n'.join(wrong)


def test_code_hangs_and_tests_are_folded(browser, url):
    page = Watched(browser, url, width=390).go('boxes.html')
    for fold in page.locator('details.check').all():
        assert not fold.locator('pre').is_visible()
        assert 'test_' in fold.text_content()
    sources = page.locator('details:not(.check)').all()
    assert all(fold.locator('pre').is_visible() for fold in sources) and sources
    assert page.locator('details.check').count() > 2
    wrapped = """line => {
        const [first, second] = line.getClientRects().length ? [...(() => {
            const range = document.createRange()
            range.selectNodeContents(line)
            return range.getClientRects()
        })()].reduce((rows, box) => (rows[0] && box.top > rows[0].bottom - 2
            ? rows[1] ??= box : rows[0] ??= box, rows), []) : []
        return second ? second.left - first.left : null
    }"""
    hangs = page.locator('main pre:visible .line').evaluate_all(
        f'lines => lines.map({wrapped}).filter(by => by !== null)')
    assert len(hangs) > 10 and min(hangs) > 5
    code = page.locator('main .sourceCode code').first
    assert code.inner_text() == code.text_content()               # as it is copied


def test_print_holds_everything(browser, url):
    page = Watched(browser, url, width=700).go('boxes.html')
    page.emulate_media(media='print')
    assert not page.locator('#quarto-header, #quarto-sidebar').filter(visible=True).count()
    assert page.evaluate("""() => [...document.querySelectorAll('main details pre')]
        .every(code => code.getBoundingClientRect().height > 20)""")
    assert not page.evaluate(CUT)


def test_skip_link_and_scroll_regions(browser, url):
    page = Watched(browser, url).go('boxes.html')
    page.keyboard.press('Tab')
    link = page.locator(':focus')
    assert link.inner_text() == 'Skip to the text' and link.bounding_box()['y'] >= 0
    link.press('Enter')
    assert page.evaluate('document.activeElement.tagName') == 'MAIN'
    page.set_viewport_size(dict(width=390, height=900))
    assert page.evaluate("""() => [...document.querySelectorAll('main *')].every(box =>
        getComputedStyle(box).overflowX !== 'auto' || box.scrollWidth <= box.clientWidth + 1
        || box.tabIndex === 0)""")


def test_pictures_are_sharp_described_and_on_paper_in_the_dark(browser, url):
    page = Watched(browser, url, color_scheme='dark').go('boxes.html')
    pictures = page.locator('main .cell-output-display img').evaluate_all("""all => all.map(
        img => ({alt: img.alt, dots: img.naturalWidth/img.width,
                 ground: getComputedStyle(img).backgroundColor}))""")
    assert pictures
    for picture in pictures:
        assert picture['alt'] and picture['dots'] >= 1.9
        assert picture['ground'] == 'rgb(255, 255, 255)'


def test_home_page_leads_to_the_live_page_on_its_first_screen(browser, url):
    page = Watched(browser, url).go('index.html')
    link = page.locator('main p').get_by_role('link', name='Watch it read')
    for width, height in ((1280, 720), (390, 844)):
        page.set_viewport_size(dict(width=width, height=height))
        box = link.bounding_box()
        assert box['y'] + box['height'] < height
    link.click()
    page.wait_for_url('**/live/index.html')


# ---------------------------------------------------------------- figures in the chapters

FIGURES = {'tokenizer.html': 'bins', 'sequence.html': 'noise', 'sampling.html': 'nucleus',
           'average_precision.html': 'threshold'}


@pytest.mark.parametrize('path', FIGURES)
def test_live_figure_moves(browser, url, path):
    watched = Watched(browser, url)
    page, name = watched.go(path), FIGURES[path]
    figure = page.locator(f'[data-figure={name}]')
    figure.locator('input').first.wait_for()
    for handle in figure.locator('input[type=range]').all():
        before = figure.inner_html()
        handle.press('ArrowRight')
        assert figure.inner_html() != before
    if choices := figure.locator('.live-choice input').all():
        before = figure.inner_html()
        choices[-1].check()                                                   # the farthest away
        assert figure.inner_html() != before
    pictures = page.locator('.cell-output-display[hidden] img').count()
    assert pictures == ('data-instead' in (SITE/path).read_text())
    assert 'Open this notebook in JupyterLab' not in page.content()
    page.set_viewport_size(dict(width=390, height=900))
    assert watched.width() <= 390
    assert not watched.wrong
    if folder := os.environ.get('PIX2SEQ_SCREENSHOTS'):
        figure.screenshot(path=Path(folder)/f'figure_{name}.png')


def test_picture_stays_where_a_figure_cannot_be_drawn(browser, url):
    watched = Watched(browser, url)
    watched.page.route('**/figures.json', lambda route: route.abort())
    page = watched.go('tokenizer.html')
    page.wait_for_timeout(300)
    assert page.locator('.cell-output-display[hidden]').count() == 0
    page = Watched(browser, url, java_script_enabled=False).go('tokenizer.html')
    assert page.locator('.cell-output-display[hidden]').count() == 0


# ---------------------------------------------------------------- the live page

READY = '[data-do=token]:enabled'
TOKENS = """() => [...document.querySelectorAll('.live-sequence .live-token')]
    .filter(cell => cell.dataset.token).map(cell => +cell.dataset.token)"""
READ_ALL = """() => new Promise(done => {
    const started = performance.now()
    const button = name => document.querySelector(`[data-do=${name}]`)
    const end = button('end'), start = button('restart')
    const watch = () => end.disabled && !start.disabled ? done(performance.now() - started)
                                                        : requestAnimationFrame(watch)
    end.click()
    watch()
})"""


def open_live(browser, url, **options):
    watched = Watched(browser, url, **options)
    watched.go('live/index.html').wait_for_selector(READY)
    return watched


@pytest.fixture(scope='module')
def live(browser, url):
    "The live page, ready to read; each test picks a scene."
    return open_live(browser, url)


def message(page): return page.locator('.live-message').inner_text()


def cells(page): return page.evaluate(TOKENS)


def test_live_tokens_are_those_of_python(live):
    model, val = Pix2Seq.from_pretrained('digits').eval(), DigitScenes('val')
    page, end = live.page, model.config.tokenizer().pad_token
    page.check('[data-set=greedy]')
    thumbs = page.locator('.live-thumb')
    numbers = [int(name.split()[1]) for name in
               thumbs.evaluate_all('all => all.map(thumb => thumb.ariaLabel)')]
    assert len(set(numbers)) >= 20
    images = torch.stack([val[i]['image']/255 for i in numbers])
    expected = generate(model, images, temperature=0, stop='never').tokens.tolist()
    took = []
    for i, tokens in enumerate(expected):
        thumbs.nth(i).click()
        took.append(page.evaluate(READ_ALL))
        read = cells(page)
        assert read + [end]*(len(tokens) - len(read)) == tokens, f'scene {numbers[i]}'
    assert sorted(took)[len(took)//2] < 1000, took     # ms; the median, as machines have hiccups
    page.uncheck('[data-set=greedy]')
    page.click('#live-compare')
    page.wait_for_function("document.getElementById('live-compared').textContent")
    count = sum(map(len, expected))
    assert page.inner_text('#live-compared').startswith(f'{count} of {count} tokens')
    assert not live.wrong


SAMPLE = """async ([base, layout, rows, draws, temperature, topP]) => {
    const {outlook, pick} = await import(`${base}/live/sampling.js`)
    const {Tokenizer} = await import(`${base}/live/tokenizer.js`)
    const tokenizer = new Tokenizer(layout), choice = {greedy: false, temperature, topP}
    return rows.map((logits, i) => pick(outlook(logits, tokenizer, i%5, choice), draws[i]))
}"""


def test_live_sampling_is_that_of_python(live):
    tokenizer = Pix2Seq.from_pretrained('digits').config.tokenizer()
    layout = {name: getattr(tokenizer, name) for name in tokenizer.__dataclass_fields__}
    random = torch.Generator().manual_seed(0)
    logits = 3*torch.randn(50, tokenizer.vocab_size, generator=random)
    draws, allowed = torch.rand(50, generator=random), slot_mask(tokenizer).repeat(10, 1)
    constrained = logits.masked_fill(~allowed, float('-inf'))
    for temperature, top_p in ((1, .4), (.5, .9), (2, 1), (1, .05)):
        tokens = live.page.evaluate(
            SAMPLE, [live.url, layout, logits.tolist(), draws.tolist(), temperature, top_p])
        assert tokens == sample_token(constrained, draws, temperature, top_p=top_p).tolist()


ENCODE = """async ([base, layout, rows]) => {
    const {Tokenizer} = await import(`${base}/live/tokenizer.js`)
    const tokenizer = new Tokenizer(layout)
    return rows.map(([box, label]) => [...tokenizer.encode(box, label),
                                       tokenizer.box(tokenizer.encode(box, label))])
}"""


def test_live_tokens_of_a_box_are_those_of_python(live):
    random = torch.Generator().manual_seed(0)
    boxes = torch.cat([torch.rand(40, 4, generator=random).double(),
                       torch.tensor([[1/8, 3/8, 5/8, 7/8], [-.2, 0, 1, 1.3]], dtype=torch.double)])
    labels = torch.randint(-1, 10, (42,), generator=random)
    for bins in (2, 5, 97, 1000):
        tokenizer = BoxTokenizer(10, bins, coord_offset=110)
        layout = {name: getattr(tokenizer, name) for name in tokenizer.__dataclass_fields__}
        objects = [*zip(boxes.tolist(), labels.tolist())]
        found = live.page.evaluate(ENCODE, [live.url, layout, objects])
        tokens = tokenizer.encode(boxes, labels)
        assert [row[:5] for row in found] == tokens.view(-1, 5).tolist()
        back = torch.tensor([row[5] for row in found], dtype=torch.float)
        assert torch.allclose(back, tokenizer.decode(tokens)[0], atol=1e-6)


NOISE = """async ([base, boxes, n, times]) => {
    const {drawer, noiseBoxes} = await import(`${base}/live/noise.js`)
    return Array.from({length: times}, (_, i) => noiseBoxes(boxes, n, drawer(i)))
}"""


def test_live_noise_is_mixed_as_in_python(live):
    boxes = torch.tensor([[.4, .3, .6, .8], [.1, .1, .2, .3], [.7, .7, .9, .9]])
    made = live.page.evaluate(NOISE, [live.url, boxes.tolist(), 20, 400])
    assert {len(noise) for noise in made} == {20}
    noise = [one for some in made for one in some]
    kinds = [sum(one['kind'] == kind for one in noise)/len(noise)
             for kind in ('jittered', 'shifted', 'random')]
    assert kinds == pytest.approx([.5, .25, .25], abs=.03)
    places = torch.tensor([one['box'] for one in noise])
    assert places.min() >= 0 and places.max() <= 1
    near = places[[one['kind'] == 'jittered' for one in noise]]
    assert box_iou(near, boxes).max(1).values.min() > .6


def test_live_reading_step_by_step(live):
    page = live.page
    page.locator('.live-thumb').nth(1).click()
    page.click('[data-do=token]')
    page.wait_for_function(f'({TOKENS})().length === 1')
    page.click('[data-do=object]')
    page.wait_for_function(f'({TOKENS})().length === 5')
    first = cells(page)
    page.locator('.live-sequence .live-token').nth(1).click()                 # look back
    page.wait_for_selector('.live-question:has-text("Object 1, xmin")')
    assert cells(page) == first
    other = page.locator('.live-candidate:not(.read)').first
    token = int(other.get_attribute('data-key'))
    other.click()                                                             # read on from there
    page.wait_for_function(f'({TOKENS})()[1] === {token}')
    forced = cells(page)
    assert forced[0] == first[0] and len(forced) == 5
    page.locator('[data-set=seed]').press('ArrowRight')                       # what is forced stays
    page.wait_for_timeout(200)
    assert cells(page)[:2] == forced[:2]
    page.click('[data-do=restart]')
    page.wait_for_function(f'({TOKENS})().length === 0')
    assert not live.wrong
    live.keep_picture('live')


def test_live_sliders_change_what_is_read(live):
    page = live.page
    page.locator('.live-thumb').nth(1).click()
    page.evaluate(READ_ALL)
    before = cells(page)
    page.locator('[data-set=topP]').press('End')
    page.locator('[data-set=temperature]').press('End')
    page.wait_for_function(f'({TOKENS})().join() !== "{",".join(map(str, before))}"')
    assert page.locator('.live-candidate.kept').count() > 1
    for name in ('topP', 'temperature'):
        page.locator(f'[data-set={name}]').press('Home')
    page.click('[data-do=restart]')
    assert not live.wrong


def test_live_by_keyboard_alone(live):
    page = live.page
    page.locator('.live-thumb').nth(0).press('Enter')
    page.locator('[data-do=token]').press('Enter')
    page.wait_for_function(f'({TOKENS})().length === 1')
    axis = page.locator('.live-axis.y')
    axis.press('Home')
    axis.press('ArrowDown')
    bin = int(axis.get_attribute('aria-valuenow'))
    axis.press('Enter')
    offset = Pix2Seq.from_pretrained('digits').config.coord_offset
    page.wait_for_function(f'({TOKENS})()[0] === {offset + bin}')
    page.locator('[data-do=empty]').press('Enter')                            # chooses the pen
    board = page.locator('.live-board')
    board.press('7')
    page.wait_for_selector('[data-do=end]:disabled')                          # is read at once
    before = page.evaluate("document.querySelector('.live-image').toDataURL()")
    for key in (' ', 'ArrowDown', 'ArrowDown', ' '): board.press(key)
    assert page.evaluate("document.querySelector('.live-image').toDataURL()") != before
    page.locator('[data-do=undo]').press('Enter')
    assert page.evaluate("document.querySelector('.live-image').toDataURL()") == before
    assert not live.wrong


def test_live_reads_what_is_drawn_with_a_finger(browser, url):
    watched = open_live(browser, url, width=390, has_touch=True, is_mobile=True)
    page = watched.page
    page.tap('[data-do=empty]')
    assert page.is_checked('[name=pen][value=chalk]')
    page.tap('[data-do=token]')
    page.wait_for_selector('.live-message:has-text("Nothing is drawn")')
    page.locator('.live-board').scroll_into_view_if_needed()
    box = page.locator('.live-board').bounding_box()
    place = lambda x, y: (box['x'] + x*box['width'], box['y'] + y*box['height'])
    page.mouse.move(*place(.5, .3))
    page.mouse.down()
    page.mouse.move(*place(.5, .6), steps=8)
    page.mouse.up()
    page.wait_for_selector('[data-do=end]:disabled')
    assert message(page) == ''
    assert page.locator('.live-box').count() > 0
    assert watched.width() <= 390
    assert not watched.wrong
    watched.keep_picture('live_finger')


def drop(page, name, kind, content):
    "Let a file fall on the board."
    page.evaluate("""([name, type, bytes]) => {
        const data = new DataTransfer()
        if (name) data.items.add(new File([new Uint8Array(bytes)], name, {type}))
        document.querySelector('.live-board').dispatchEvent(
            new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))
    }""", [name, kind, [*content]])


def test_live_pictures_that_are_no_scenes(live):
    page, photo = live.page, io.BytesIO()
    Image.new('RGB', (300, 200), 'teal').save(photo, 'png')
    for file, words in ((('notes.txt', 'text/plain', b'hello'), '“notes.txt” is no picture'),
                        (('half.png', 'image/png', photo.getvalue()[:90]), '“half.png” is no'),
                        (('', '', b''), 'Only a picture from a file'),
                        (('sea.png', 'image/png', photo.getvalue()), '“sea.png” was resized')):
        drop(page, *file)
        page.wait_for_selector(f'.live-message:has-text("{words}")')
    assert page.evaluate(READ_ALL) < 5000                                     # goes on working
    page.locator('.live-thumb').nth(0).click()
    assert message(page) == ''
    assert not live.wrong


def test_live_without_the_graphs(browser, url):
    "A failed download: one sentence, all but the reading works, and a second try succeeds."
    watched = Watched(browser, url)
    watched.page.route('**/step.onnx.gz', lambda route: route.abort())
    page = watched.go('live/index.html')
    page.wait_for_selector('.live-loading:has-text("could not be downloaded (step.onnx.gz")')
    page.click('[data-do=new]')
    page.click('[data-do=empty]')
    assert page.is_disabled('[data-do=token]')
    page.unroute('**/step.onnx.gz')
    page.click('[data-do=load]')
    page.wait_for_selector(READY)
    assert all('ERR_FAILED' in line for line in watched.wrong), watched.wrong


@pytest.mark.parametrize('script, words', [
    ('delete globalThis.WebAssembly', 'This browser has no WebAssembly'),
    ("WebAssembly.instantiate = () => Promise.reject(new RangeError('out of memory'))",
     'did not give the model the memory'),
])
def test_live_in_a_poor_browser(browser, url, script, words):
    watched = Watched(browser, url)
    watched.page.add_init_script(script)
    page = watched.go('live/index.html')
    page.wait_for_selector(f'.live-loading:has-text("{words}")')
    page.click('[data-do=new]')
    assert page.is_disabled('[data-do=token]')
    assert not [line for line in watched.wrong if 'memory' not in line], watched.wrong


def test_live_without_javascript(browser, url):
    page = Watched(browser, url, java_script_enabled=False).go('live/index.html')
    assert page.is_visible('.live-still img') and page.is_visible('.live-still p')
    assert not page.is_visible('.live-app')


# ---------------------------------------------------------------- entries, search, furniture

MODULES = sorted((ROOT/'pix2seq').glob('[a-z]*.py'))


def plain(text): return unescape(re.sub(r'<[^>]+>|`', '', text))


@pytest.mark.parametrize('module', MODULES, ids=lambda module: module.stem)
def test_entries_are_the_code(module):
    "An entry for each public name, in the order of the code, with a link to its line."
    code, page = module.read_text(), (SITE/f'{module.stem}.html').read_text()
    source = rf'href="[^"]*/blob/main/pix2seq/{module.name}#L(\d+)"'
    entries = re.findall(rf'<h3[^>]*>([^<]*)</h3>\s*<p><a {source}(.*?)</code></pre>', page, re.S)
    heads = [re.match(r'((?:def|class) ([a-zA-Z]\w*))', line) for line in code.splitlines()]
    heads = [(n, *head.groups()) for n, head in enumerate(heads, 1) if head]
    assert [(int(n), name.split('.')[-1]) for name, n, _ in entries] == [
        (n, name) for n, _, name in heads]
    for (_, head, name), (*_, shown) in zip(heads, entries):
        assert head in plain(shown), name                    # a class is shown as what it is
        assert 'Exported source' in shown or '`' not in shown, name         # Markdown in code
    text = ' '.join(plain(page).split())
    for options, comment in re.findall(r'^    (\*\*\w+), *# (.*)', code, re.M):
        assert plain(comment) in text, options
    assert '__main__.' not in text


@pytest.mark.parametrize('query, found', [
    ('noise', 'idea.html#noise-objects'),
    ('nucleus', 'sampling.html#top-k-and-the-nucleus'),
    ('train on my own data', 'tutorials/custom_data.html'),
    ('my own data', 'tutorials/custom_data.html'),
    ('webcam', 'howto/predict.html'),
    ('fine-tune', 'howto/fine_tune.html'),
    ('fine-tuning', 'howto/fine_tune.html'),
    ('GPU memory', 'howto/fine_tune.html#how-much-gpu-memory-does-it-take'),
    ('show_boxes', 'boxes.html#show_boxes'),
    ('how to export', 'export.html'),
])
def test_search_finds_headings_first(live, query, found):
    box = live.page.get_by_role('searchbox', name='Search')
    box.fill(query)
    first = live.page.locator('.search-result').first
    live.page.wait_for_timeout(300)
    assert first.get_attribute('href').endswith(found)
    box.fill('')


def test_start_here_leads_to_noise_objects(browser, url):
    "Within one click and two screens from the home page."
    page = Watched(browser, url, reduced_motion='reduce').go('index.html')
    page.set_viewport_size(dict(width=1280, height=800))
    link = page.get_by_role('link', name='what noise objects are for')
    assert link.bounding_box()['y'] < 800
    link.click()
    page.wait_for_url('**/idea.html#noise-objects')
    page.wait_for_function('scrollY > 0')
    answer = page.get_by_text('What it is for.').bounding_box()
    assert 0 < answer['y'] < 800
    page.get_by_role('link', name='Start here').click()
    page.wait_for_url('**/idea.html')


def test_every_page_can_be_found_and_shared(url):
    pages = {path.relative_to(SITE).as_posix() for path in SITE.rglob('*.html')}
    home = 'https://pix2seq.github.io/pix2seq'
    listed = re.findall(f'<loc>{home}/(.*?)</loc>', (SITE/'sitemap.xml').read_text())
    assert {*listed, '404.html'} == pages
    picture = Image.open(SITE/'images/social.png')
    assert picture.size == (1200, 630) and (SITE/'images/social.png').stat().st_size < 200_000
    for page in pages:
        text = (SITE/page).read_text()
        for wanted in (f'property="og:image" content="{home}/images/social.png"',
                       f'name="twitter:image" content="{home}/images/social.png"',
                       'rel="icon"', 'href="https://github.com/pix2seq/pix2seq"'):
            assert wanted in text, page
