"What all tests share: Ctrl-C that reaches programs, and a browser."
import signal
from shutil import which

import pytest

# Programs that tests interrupt take Ctrl-C, also where a shell runs the tests in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

BROWSERS = 'chromium', 'chromium-browser', 'google-chrome'
BROWSER_OPTIONS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
                   '--disable-background-networking', '--disable-component-update',
                   '--disable-sync']


@pytest.fixture(scope='module')
def browser():
    "Headless Chromium; a test that needs it is skipped where it, or Playwright, is missing."
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    program = next(filter(None, map(which, BROWSERS)), None)
    if program is None: pytest.skip('no Chromium on this machine')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=BROWSER_OPTIONS)
        yield browser
        browser.close()
