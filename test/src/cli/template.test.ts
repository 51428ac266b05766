import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { template } from '../../../src/cli/format/template.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const VIEW = {
  Id: 'abc',
  Name: '/web',
  State: { Running: true, ExitCode: 0, Error: '' },
  Args: ['a', 'b'],
  Ports: { '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8080' }], '443/tcp': null },
  Labels: { b: '2', a: '1' },
  Nothing: null,
}

const ROWS: readonly (readonly [text: string, shows: string])[] = [
  ['{{.Id}}', 'abc'],
  ['{{ .State.Running }} {{.State.ExitCode}}', 'true 0'],
  ['{{.Args}} {{.Labels}}', '[a b] map[a:1 b:2]'],
  ['{{.Absent}}|{{.Absent.More}}|{{.Nothing}}', '<no value>|<no value>|<nil>'],
  ['{{json .State}}', '{"Running":true,"ExitCode":0,"Error":""}'],
  ['{{range .Args}}<{{.}}>{{end}}', '<a><b>'],
  ['{{range $at, $one := .Args}}{{$at}}={{$one}};{{end}}', '0=a;1=b;'],
  ['{{range $k, $v := .Labels}}{{$k}}{{$v}} {{end}}', 'a1 b2 '],
  ['{{range .Absent}}x{{else}}none{{end}}', 'none'],
  ['{{if .State.Running}}up{{else}}down{{end}}', 'up'],
  ['{{if .State.Error}}bad{{else if .Args}}args{{else}}no{{end}}', 'args'],
  ['{{with .State}}{{.ExitCode}}{{end}}', '0'],
  ['{{(index (index .Ports "80/tcp") 0).HostPort}}', '8080'],
  ['{{index .Labels "a"}}{{index .Args 1}}', '1b'],
  ['{{$x := .Name}}{{$x}}{{$.Id}}', '/webabc'],
  ['{{.Name | upper | printf "%s!"}}', '/WEB!'],
  ['{{join .Args ", "}} {{len .Args}} {{len .Id}}', 'a, b 2 3'],
  ['{{split "a:b" ":" | json}}', '["a","b"]'],
  ['{{printf "%q %5s|%-4d|" .Id "x" 7}}', '"abc"     x|7   |'],
  ['{{slice .Id 0 2}}{{truncate .Id 1}}', 'aba'],
  ['{{if and .Id (not .Nothing)}}y{{end}}{{or .State.Error "none"}}', 'ynone'],
  ['{{if eq .Id "abc" "x"}}1{{end}}{{if ne .Id "x"}}2{{end}}{{if gt 3 2}}3{{end}}', '123'],
  ['a {{- .Id -}} b{{/* said to nobody */}}', 'aabcb'],
  ['{{println .Id}}{{print "a" 1}}', 'abc\na1'],
  ['plain', 'plain'],
  ['{{"}}"}}{{`raw\\n`}}', '}}raw\\n'],
]

describe('templates', () => {
  for (const [text, shows] of ROWS)
    it(`fill ${text}`, () => {
      assert.equal(template(text)(VIEW), shows)
    })

  it('name the fields that there are when one is asked for that is not', () => {
    const fill = template('{{.Nmae}}', { strict: true })
    throwsWith('BAD_ARGUMENT', () => fill({ ID: '1', Name: 'x' }), /field Nmae: there are ID, Name/)
  })

  for (const [text, why] of [
    ['{{.Id', /unclosed action/],
    ['{{if .Id}}x', /{{end}} is missing/],
    ['{{end}}', /unexpected {{end}}/],
    ['{{nosuch .Id}}', /function "nosuch" not defined/],
    ['{{.Id .Name}}', /arguments to a value/],
    ['{{index .Args 7}}', /index out of range/],
    ['{{.Id.More}}', /can't evaluate field More/],
    ['{{$y}}', /undefined variable/],
    ['{{}}', /missing value/],
    ['{{.Id ! }}', /unexpected/],
  ] as const)
    it(`refuse ${text}`, () => {
      throwsWith('BAD_ARGUMENT', () => template(text)(VIEW), why)
    })
})
