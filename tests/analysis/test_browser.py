"""The report as a person sees it: in Chromium, without a screen."""

import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from analysis.report import page
from tests.analysis import pages

pytestmark = pytest.mark.slow

SERVER = "http://127.0.0.1:5000"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(page.html_page(pages.make(folder), mlflow_url=SERVER), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium():
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        reason = "no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    options = Options()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, address):
    """The page, freshly opened; nothing may have gone wrong in it when the test ends."""
    _show(chromium, address)
    yield chromium
    assert chromium.get_log("browser") == []


def _show(driver, address, width=1280, height=900, scheme="light"):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": width < 600})
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(address)
    driver.execute_script("localStorage.clear()")
    driver.get(address)


def _table(driver):
    return driver.find_element(By.CSS_SELECTOR, "#ll_delta-default .sweep-table table")


def _rows(driver):
    return [row.text for row in _table(driver).find_elements(By.CSS_SELECTOR, "tbody th")]


def _card(driver):
    return WebDriverWait(driver, 10).until(lambda d: d.find_element(By.CLASS_NAME, "sweep-card"))


def _paper(driver):
    """The page's brightness, 0 … 255."""
    colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.strip("rgb()").split(",")) / 3


def test_a_click_on_a_head_sorts_best_first_then_the_other_way_then_as_it_was(browser):
    as_it_was = ["Full label", "Naive AN", "LL-R", "LL-Ct"]
    head = _table(browser).find_elements(By.CSS_SELECTOR, "thead th")[2]
    assert head.text == "0.1"
    found = [_rows(browser)]
    for _ in range(3):
        head.find_element(By.TAG_NAME, "button").click()
        found.append([*_rows(browser), head.get_attribute("aria-sort")])
    # The first two rows have no value there.
    lacking = ["Full label", "Naive AN"]
    assert found == [
        as_it_was,
        ["LL-Ct", "LL-R", *lacking, "descending"],
        ["LL-R", "LL-Ct", *lacking, "ascending"],
        [*as_it_was, None],
    ]


def test_the_names_of_rows_are_sorted_too(browser):
    _table(browser).find_element(By.CSS_SELECTOR, "thead button").click()
    assert _rows(browser) == ["Full label", "LL-Ct", "LL-R", "Naive AN"]


def test_pointing_at_a_cell_says_what_it_is_made_of_with_links_to_its_runs(browser):
    (cell,) = [c for c in _table(browser).find_elements(By.TAG_NAME, "td") if c.text == "50.5 ± 0.7 (2/3)"]
    ActionChains(browser).move_to_element(cell).perform()
    card = _card(browser)
    assert card.text.split("\n")[:5] == [
        *("LL-R, 1.6", "50.50 ± 0.71", "n = 2 of 3", "seed 1: 50.00 · seed 3: 51.00"),
        "seed 2 failed (loss is NaN in epoch 2)",
    ]
    links = [link.get_attribute("href") for link in card.find_elements(By.TAG_NAME, "a")]
    assert links == [f"{SERVER}/#/runs/{run}" for run in cell.get_attribute("data-runs").split()]
    assert len(links) == 2
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert browser.find_elements(By.CLASS_NAME, "sweep-card") == []


def test_a_touch_does_as_well_and_the_card_stays_on_the_screen(chromium, address):
    _show(chromium, address, width=390, height=844)
    cell = _table(chromium).find_elements(By.CSS_SELECTOR, "td[data-n]")[0]
    cell.click()
    box = _card(chromium).rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert chromium.find_elements(By.CSS_SELECTOR, ".sweep-card a")
    chromium.find_element(By.TAG_NAME, "h1").click()
    assert chromium.find_elements(By.CLASS_NAME, "sweep-card") == []
    assert chromium.get_log("browser") == []


def test_the_keyboard_does_as_well(browser):
    cell = _table(browser).find_elements(By.CSS_SELECTOR, "td[data-n]")[0]
    browser.execute_script("arguments[0].focus()", cell)
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert _card(browser)
    assert browser.switch_to.active_element.tag_name == "a"
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert browser.switch_to.active_element == cell


def test_it_is_dark_where_the_system_is_and_the_button_turns_it_and_is_remembered(chromium, address):
    _show(chromium, address, scheme="dark")
    assert _paper(chromium) < 60
    chromium.find_element(By.ID, "theme").click()
    assert _paper(chromium) > 240
    chromium.get(address)
    assert _paper(chromium) > 240
    chromium.find_element(By.ID, "theme").click()
    assert _paper(chromium) < 60
    text = "const t = document.querySelector('figure.drawn text'); return getComputedStyle(t).fill"
    assert chromium.execute_script(text) == chromium.execute_script("return getComputedStyle(document.body).color")
    assert chromium.get_log("browser") == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def test_no_page_is_wider_than_its_screen_and_a_picture_of_it_can_be_taken(chromium, address, tmp_path, width, scheme):
    _show(chromium, address, width, 844, scheme)
    assert chromium.execute_script("return document.documentElement.scrollWidth") == width
    wide = chromium.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length"
    )
    assert (wide > 0) == (width == 390)
    out = tmp_path / f"{width}-{scheme}.png"
    assert chromium.save_screenshot(str(out))
    assert out.stat().st_size > 10_000
    assert chromium.get_log("browser") == []


def test_a_link_to_a_claim_opens_it(browser, address):
    browser.get(f"{address}#claim-3")
    claim = browser.find_element(By.ID, "claim-3")
    assert claim.get_attribute("open") is not None
    assert "reproduced" in claim.text
    assert "best inner Δrel − 0.1" in claim.text
